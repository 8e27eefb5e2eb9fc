// franz-go as a program: what it is asked and how it answers stands in tests/clients/__init__.py.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"clients/program"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

var codecs = map[string]kgo.CompressionCodec{
	"none":   kgo.NoCompression(),
	"gzip":   kgo.GzipCompression(),
	"snappy": kgo.SnappyCompression(),
	"lz4":    kgo.Lz4Compression(),
	"zstd":   kgo.ZstdCompression(),
}

func main() {
	program.Serve(map[string]program.Operation{
		"create": create, "describe": describe, "delete": remove, "delete_records": deleteRecords,
		"produce": produce, "flood": flood, "consume": consume, "offsets": offsets, "group": group,
	})
}

func client(options ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append(options, kgo.SeedBrokers(os.Args[1]))...)
}

func withAdmin(work func(context.Context, *kadm.Client) error) error {
	c, err := client()
	if err != nil {
		return err
	}
	admin := kadm.NewClient(c)
	defer admin.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return work(ctx, admin)
}

func create(r *program.Request) error {
	return withAdmin(func(ctx context.Context, admin *kadm.Client) error {
		_, err := admin.CreateTopic(ctx, r.Partitions, 1, nil, r.Topic)
		return err
	})
}

func describe(r *program.Request) error {
	return withAdmin(func(ctx context.Context, admin *kadm.Client) error {
		topics, err := admin.ListTopics(ctx, r.Topic)
		if err != nil {
			return err
		}
		if err := topics[r.Topic].Err; err != nil {
			return err
		}
		program.Tell("partitions", len(topics[r.Topic].Partitions))
		return nil
	})
}

func remove(r *program.Request) error {
	return withAdmin(func(ctx context.Context, admin *kadm.Client) error {
		_, err := admin.DeleteTopic(ctx, r.Topic)
		return err
	})
}

func deleteRecords(r *program.Request) error {
	var offsets kadm.Offsets
	for partition, offset := range r.Before {
		offsets.AddOffset(r.Topic, partition, offset, -1)
	}
	return withAdmin(func(ctx context.Context, admin *kadm.Client) error {
		deleted, err := admin.DeleteRecords(ctx, offsets)
		if err != nil {
			return err
		}
		return deleted.Error()
	})
}

func producer(r *program.Request) (*kgo.Client, error) {
	options := []kgo.Opt{
		kgo.AllowAutoTopicCreation(), kgo.ProducerLinger(50 * time.Millisecond),
		kgo.ProducerBatchCompression(codecs[r.Codec]),
	}
	if !r.Idempotent {
		options = append(options, kgo.DisableIdempotentWrite())
	}
	if r.InFlight > 0 {
		options = append(options, kgo.MaxBufferedRecords(r.InFlight))
		options = append(options, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	}
	return client(options...)
}

func produce(r *program.Request) error {
	c, err := producer(r)
	if err != nil {
		return err
	}
	defer c.Close()
	var records []*kgo.Record
	for _, record := range r.Records {
		made := &kgo.Record{
			Topic: r.Topic, Key: record.Key, Value: record.Value, Timestamp: time.UnixMilli(record.Timestamp),
		}
		for _, header := range record.Headers {
			made.Headers = append(made.Headers, kgo.RecordHeader{Key: header.Name, Value: header.Value})
		}
		records = append(records, made)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return c.ProduceSync(ctx, records...).FirstErr()
}

func flood(r *program.Request) error {
	c, err := producer(r)
	if err != nil {
		return err
	}
	defer c.Close()
	stop := program.Stop()
	sent := 0
	var acknowledged atomic.Int64
	var failed atomic.Pointer[error]
	for !program.Stopped(stop) && failed.Load() == nil {
		record := &kgo.Record{Topic: r.Topic, Partition: 0, Value: fmt.Append(nil, sent)}
		sent++
		// Waits while as many as were allowed are not acknowledged.
		c.Produce(context.Background(), record, func(_ *kgo.Record, err error) {
			if err != nil {
				failed.Store(&err)
			} else {
				program.Tell("acknowledged", acknowledged.Add(1))
			}
		})
	}
	if err := c.Flush(context.Background()); err != nil {
		return err
	}
	if err := failed.Load(); err != nil {
		return *err
	}
	program.Tell("sent", sent)
	return nil
}

func consume(r *program.Request) error {
	from := map[int32]kgo.Offset{}
	for partition, offset := range r.From {
		from[partition] = kgo.NewOffset().At(offset)
	}
	c, err := client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{r.Topic: from}))
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for len(r.To) > 0 {
		fetches := c.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return err
		}
		fetches.EachRecord(func(record *kgo.Record) {
			tell(record)
			if end, open := r.To[record.Partition]; open && record.Offset+1 >= end {
				delete(r.To, record.Partition)
			}
		})
	}
	return nil
}

func offsets(r *program.Request) error {
	return withAdmin(func(ctx context.Context, admin *kadm.Client) error {
		earliest, err := admin.ListStartOffsets(ctx, r.Topic)
		if err != nil {
			return err
		}
		latest, err := admin.ListEndOffsets(ctx, r.Topic)
		if err != nil {
			return err
		}
		program.TellAll(map[string]any{"earliest": listed(r, earliest), "latest": listed(r, latest)})
		for _, at := range r.Times {
			found, err := admin.ListOffsetsAfterMilli(ctx, at, r.Topic)
			if err != nil {
				return err
			}
			program.TellAll(map[string]any{"time": at, "offsets": listed(r, found)})
		}
		return nil
	})
}

func listed(r *program.Request, found kadm.ListedOffsets) []int64 {
	offsets := []int64{}
	for partition := range r.Partitions {
		offset, _ := found.Lookup(r.Topic, partition)
		offsets = append(offsets, offset.Offset)
	}
	return offsets
}

func group(r *program.Request) error {
	c, err := client(
		kgo.ConsumerGroup(r.Group), kgo.ConsumeTopics(r.Topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(), kgo.HeartbeatInterval(500*time.Millisecond),
		kgo.FetchMaxWait(200*time.Millisecond),
	)
	if err != nil {
		return err
	}
	defer c.CloseAllowingRebalance()
	stop := program.Stop()
	for !program.Stopped(stop) {
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		fetches := c.PollFetches(ctx)
		cancel()
		if err := fetches.Err(); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		if records := fetches.Records(); len(records) > 0 {
			if err := c.CommitRecords(context.Background(), records...); err != nil {
				program.Tell("not_committed", err.Error())
			} else {
				for _, record := range records {
					tell(record)
				}
			}
		}
		c.AllowRebalance()
	}
	return nil
}

func tell(record *kgo.Record) {
	told := program.Record{
		Partition: record.Partition, Offset: record.Offset, Timestamp: record.Timestamp.UnixMilli(),
		Key: record.Key, Value: record.Value, Headers: []program.Header{},
	}
	for _, header := range record.Headers {
		told.Headers = append(told.Headers, program.Header{Name: header.Key, Value: header.Value})
	}
	program.Tell("record", told)
}
