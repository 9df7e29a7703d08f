// Benthos, the engine of Redpanda Connect, with Kafka at both ends.
//
// Redpanda Connect adds the connectors to this engine, and some of them are under a licence that is no
// open-source one; so the two that are needed here are written against the engine's public interface, upon the
// client that Redpanda Connect itself uses (franz-go). What they promise is what Sandbar promises: a position is
// committed when the outputs before it are acknowledged by all in-sync replicas.
package main

import (
	"context"
	"sync"
	"time"

	_ "github.com/redpanda-data/benthos/v4/public/components/pure"
	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Records taken from the client at once, and handed on together.
const batch = 2000

func main() {
	input := service.NewConfigSpec().Fields(
		service.NewStringField("broker"),
		service.NewStringField("topic"),
		service.NewStringField("group"),
	)
	must(service.RegisterBatchInput("kafka", input, newReader))
	output := service.NewConfigSpec().Fields(
		service.NewStringField("broker"),
		service.NewStringField("topic"),
		service.NewIntField("max_in_flight").Default(16),
	)
	must(service.RegisterBatchOutput("kafka", output, newWriter))
	service.RunCLI(context.Background())
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

type reader struct {
	options []kgo.Opt
	client  *kgo.Client

	lock sync.Mutex
	open []*taken // in the order in which they were read
}

// What was read together.
type taken struct {
	records []*kgo.Record
	done    bool
}

func newReader(conf *service.ParsedConfig, _ *service.Resources) (service.BatchInput, error) {
	broker, err := conf.FieldString("broker")
	if err != nil {
		return nil, err
	}
	topic, err := conf.FieldString("topic")
	if err != nil {
		return nil, err
	}
	group, err := conf.FieldString("group")
	if err != nil {
		return nil, err
	}
	return &reader{options: []kgo.Opt{
		kgo.SeedBrokers(broker),
		kgo.ConsumeTopics(topic),
		kgo.ConsumerGroup(group),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.AutoCommitMarks(),
		kgo.AutoCommitInterval(time.Second),
	}}, nil
}

func (r *reader) Connect(context.Context) error {
	client, err := kgo.NewClient(r.options...)
	r.client = client
	return err
}

func (r *reader) ReadBatch(ctx context.Context) (service.MessageBatch, service.AckFunc, error) {
	fetches := r.client.PollRecords(ctx, batch)
	if err := fetches.Err0(); err != nil {
		return nil, nil, err
	}
	t := &taken{records: fetches.Records()}
	messages := make(service.MessageBatch, len(t.records))
	for i, record := range t.records {
		messages[i] = service.NewMessage(record.Value)
		messages[i].MetaSetMut("key", record.Key)
	}
	r.lock.Lock()
	r.open = append(r.open, t)
	r.lock.Unlock()
	return messages, func(_ context.Context, err error) error {
		if err == nil {
			r.settle(t)
		}
		return nil
	}, nil
}

// A position is marked when all that was read before it is done too.
func (r *reader) settle(t *taken) {
	r.lock.Lock()
	defer r.lock.Unlock()
	t.done = true
	for len(r.open) > 0 && r.open[0].done {
		r.client.MarkCommitRecords(r.open[0].records...)
		r.open = r.open[1:]
	}
}

func (r *reader) Close(context.Context) error {
	if r.client != nil {
		r.client.Close()
	}
	return nil
}

type writer struct {
	options []kgo.Opt
	client  *kgo.Client
}

func newWriter(conf *service.ParsedConfig, _ *service.Resources) (service.BatchOutput, service.BatchPolicy, int, error) {
	none := service.BatchPolicy{}
	broker, err := conf.FieldString("broker")
	if err != nil {
		return nil, none, 0, err
	}
	topic, err := conf.FieldString("topic")
	if err != nil {
		return nil, none, 0, err
	}
	inFlight, err := conf.FieldInt("max_in_flight")
	if err != nil {
		return nil, none, 0, err
	}
	return &writer{options: []kgo.Opt{
		kgo.SeedBrokers(broker),
		kgo.DefaultProduceTopic(topic),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerLinger(5 * time.Millisecond),
		kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.MaxBufferedRecords(100_000),
	}}, none, inFlight, nil
}

func (w *writer) Connect(context.Context) error {
	client, err := kgo.NewClient(w.options...)
	w.client = client
	return err
}

func (w *writer) WriteBatch(ctx context.Context, messages service.MessageBatch) error {
	records := make([]*kgo.Record, len(messages))
	for i, message := range messages {
		value, err := message.AsBytes()
		if err != nil {
			return err
		}
		records[i] = &kgo.Record{Value: value}
		if key, ok := message.MetaGetMut("key"); ok {
			records[i].Key, _ = key.([]byte)
		}
	}
	return w.client.ProduceSync(ctx, records...).FirstErr()
}

func (w *writer) Close(context.Context) error {
	if w.client != nil {
		w.client.Close()
	}
	return nil
}
