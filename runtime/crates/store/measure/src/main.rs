//! Which library carries the embedded log? Appends 1 KiB records in fsynced groups
//! with redb, fjall and SQLite, one row per record and packed (one value holds all
//! records of a group for one partition).
//!
//! A shared disk may be three times as fast one minute as the next, so the libraries
//! take turns within each case and each case is run in several rounds: compare only
//! figures of one case, and only where their ranges do not overlap.
//!
//! `cargo run --release -- DIR [SECONDS_PER_RUN [ROUNDS]]`; results: docs/storage.md.

use std::{
    error::Error,
    fs,
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
    time::{Duration, Instant},
};

const RECORD: usize = 1024;
const PARTITIONS: u32 = 4;
type Res<T> = Result<T, Box<dyn Error>>;

/// Appends one group of rows durably.
type Append = Box<dyn FnMut(&[([u8; 12], Vec<u8>)]) -> Res<()>>;

type Open = fn(&Path) -> Res<Append>;

fn main() -> Res<()> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().ok_or("usage: store-measure DIR [SECONDS_PER_RUN [ROUNDS]]")?;
    let dir = Path::new(&dir);
    let time = Duration::from_secs_f64(args.next().map_or(Ok(1.0), |s| s.parse())?);
    let rounds: usize = args.next().map_or(Ok(3), |s| s.parse())?;
    println!("least to most of {rounds} rounds");
    println!(
        "| group | stored | library | records/s | commit p50 ms | p99 ms | file bytes per record | reopen s per GB |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let libraries: [(&str, Open); 5] = [
        ("write + fdatasync", raw),
        ("redb", |p| redb_with(p, false)),
        ("redb quick-repair", |p| redb_with(p, true)),
        ("fjall", fjall),
        ("SQLite", sqlite),
    ];
    for (group, pack) in [(100, 0), (100, 60), (1_000, 0), (1_000, 250), (4_000, 0), (4_000, 250)] {
        let mut results = vec![Vec::new(); libraries.len()];
        for _ in 0..rounds {
            for ((name, open), results) in libraries.iter().zip(&mut results) {
                results.push(run(dir, name, *open, group, pack * RECORD, time)?);
            }
        }
        for ((name, _), results) in libraries.iter().zip(&results) {
            let range = |column: usize, digits: usize| {
                let of = |r: &[f64; 5]| r[column];
                let least = results.iter().map(of).fold(f64::INFINITY, f64::min);
                let most = results.iter().map(of).fold(0.0, f64::max);
                format!("{least:.digits$} to {most:.digits$}")
            };
            let stored = if pack == 0 { "row each".into() } else { format!("packed, {pack} KiB") };
            let reopen = if name.starts_with("redb") { range(4, 2) } else { "-".into() };
            println!(
                "| {group} | {stored} | {name} | {} | {} | {} | {} | {reopen} |",
                range(0, 0),
                range(1, 1),
                range(2, 1),
                range(3, 0)
            );
        }
    }
    Ok(())
}

/// One run: records/s, median and p99 commit in ms, bytes of disk per record, seconds
/// to reopen a gigabyte after a crash.
fn run(
    dir: &Path,
    name: &str,
    open: Open,
    group: usize,
    pack: usize,
    time: Duration,
) -> Res<[f64; 5]> {
    let path = dir.join("measured");
    if path.exists() {
        fs::remove_dir_all(&path)?;
    }
    fs::create_dir_all(&path)?;
    let mut append = open(&path)?;
    let mut seed = 1u64;
    let mut noise = vec![0u8; 1 << 20];
    for b in &mut noise {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        *b = (seed >> 56) as u8;
    }
    let (mut offset, mut records, mut took) = (0u64, 0u64, Vec::new());
    let start = Instant::now();
    // SQLite and fjall slow down once they compact: measure past that, but bound the disk used
    while start.elapsed() < time && records < 6_000_000 {
        let began = Instant::now();
        let mut rows = Vec::new();
        let each = group / PARTITIONS as usize;
        for partition in 0..PARTITIONS {
            let per_row = if pack == 0 { 1 } else { pack / RECORD };
            let mut at = 0;
            while at < each {
                let n = per_row.min(each - at);
                let mut key = [0; 12];
                key[..4].copy_from_slice(&partition.to_be_bytes());
                key[4..].copy_from_slice(&(offset + at as u64).to_be_bytes());
                let mut value = Vec::with_capacity(n * RECORD);
                for i in 0..n {
                    let from = (offset as usize * 7 + i * 97) % (noise.len() - RECORD);
                    value.extend_from_slice(&noise[from..from + RECORD]);
                }
                rows.push((key, value));
                at += n;
            }
        }
        append(&rows)?;
        offset += each as u64;
        records += each as u64 * u64::from(PARTITIONS);
        took.push(began.elapsed());
    }
    let rate = records as f64 / start.elapsed().as_secs_f64();
    took.sort();
    let ms = |q: f64| took[((took.len() - 1) as f64 * q) as usize].as_secs_f64() * 1e3;
    let bytes: u64 = fs::read_dir(&path)?.map(|e| size(&e?.path())).sum::<Res<u64>>()?;
    // a copy of the open file is what a kill would leave behind
    let crashed = dir.join("crashed");
    let reopen = if name.starts_with("redb") {
        fs::create_dir_all(&crashed)?;
        fs::copy(path.join("redb"), crashed.join("redb"))?;
        let began = Instant::now();
        let db = redb::Database::create(crashed.join("redb"))?;
        let seconds = began.elapsed().as_secs_f64();
        drop(db);
        fs::remove_dir_all(&crashed)?;
        seconds / (bytes as f64 / 1e9)
    } else {
        0.0
    };
    drop(append);
    fs::remove_dir_all(&path)?;
    Ok([rate, ms(0.5), ms(0.99), bytes as f64 / records as f64, reopen])
}

fn size(path: &Path) -> Res<u64> {
    let meta = fs::metadata(path)?;
    if meta.is_dir() {
        return fs::read_dir(path)?.map(|e| size(&e?.path())).sum();
    }
    Ok(meta.blocks() * 512)
}

/// What the disk itself gives: the same bytes at the end of a file whose length is
/// set ahead, as redb does, so that a sync need not also journal a new length.
fn raw(path: &Path) -> Res<Append> {
    let file = fs::File::create(path.join("raw"))?;
    file.set_len(16 << 30)?;
    let mut at = 0;
    Ok(Box::new(move |rows| {
        for (_, value) in rows {
            file.write_all_at(value, at)?;
            at += value.len() as u64;
        }
        Ok(file.sync_data()?)
    }))
}

fn redb_with(path: &Path, quick_repair: bool) -> Res<Append> {
    const TABLE: redb::TableDefinition<'_, (u32, u64), &[u8]> = redb::TableDefinition::new("log");
    let db = redb::Builder::new().set_cache_size(64 << 20).create(path.join("redb"))?;
    Ok(Box::new(move |rows| {
        let mut tx = db.begin_write()?;
        tx.set_quick_repair(quick_repair);
        {
            let mut table = tx.open_table(TABLE)?;
            for (key, value) in rows {
                let (p, o) = key.split_at(4);
                table.insert(
                    (u32::from_be_bytes(p.try_into()?), u64::from_be_bytes(o.try_into()?)),
                    value.as_slice(),
                )?;
            }
        }
        Ok(tx.commit()?)
    }))
}

fn fjall(path: &Path) -> Res<Append> {
    let db = fjall::Database::builder(path).open()?;
    let log = db.keyspace("log", fjall::KeyspaceCreateOptions::default)?;
    Ok(Box::new(move |rows| {
        let mut batch = db.batch();
        for (key, value) in rows {
            batch.insert(&log, key.as_slice(), value.as_slice());
        }
        batch.commit()?;
        Ok(db.persist(fjall::PersistMode::SyncData)?)
    }))
}

fn sqlite(path: &Path) -> Res<Append> {
    let db = rusqlite::Connection::open(path.join("sqlite"))?;
    db.execute_batch(
        "pragma journal_mode = wal; pragma synchronous = full;
         create table log (part integer, offset integer, value blob, primary key (part, offset)) without rowid;",
    )?;
    Ok(Box::new(move |rows| {
        db.execute_batch("begin immediate")?;
        {
            let mut insert = db.prepare_cached("insert into log values (?, ?, ?)")?;
            for (key, value) in rows {
                let (p, o) = key.split_at(4);
                insert.execute((
                    u32::from_be_bytes(p.try_into()?),
                    u64::from_be_bytes(o.try_into()?) as i64,
                    value,
                ))?;
            }
        }
        Ok(db.execute_batch("commit")?)
    }))
}
