module github-router-go

go 1.26

require sandbar v0.0.0

replace sandbar => ../../sdk/go
