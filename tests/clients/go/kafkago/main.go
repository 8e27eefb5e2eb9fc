// kafka-go as a program: what it is asked and how it answers stands in tests/clients/__init__.py.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"clients/program"

	"github.com/segmentio/kafka-go"
)

var codecs = map[string]kafka.Compression{
	"gzip":   kafka.Gzip,
	"snappy": kafka.Snappy,
	"lz4":    kafka.Lz4,
	"zstd":   kafka.Zstd,
}

var address = os.Args[1]

func main() {
	program.Serve(map[string]program.Operation{
		"create": create, "describe": describe, "delete": remove, "produce": produce,
		"consume": consume, "offsets": offsets, "group": group,
	})
}

func client() *kafka.Client {
	return &kafka.Client{Addr: kafka.TCP(address), Timeout: 30 * time.Second}
}

func create(r *program.Request) error {
	topic := kafka.TopicConfig{Topic: r.Topic, NumPartitions: int(r.Partitions), ReplicationFactor: 1}
	answer, err := client().CreateTopics(context.Background(), &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{topic}})
	if err != nil {
		return err
	}
	return answer.Errors[r.Topic]
}

func describe(r *program.Request) error {
	answer, err := client().Metadata(context.Background(), &kafka.MetadataRequest{Topics: []string{r.Topic}})
	if err != nil {
		return err
	}
	if err := answer.Topics[0].Error; err != nil {
		return err
	}
	program.Tell("partitions", len(answer.Topics[0].Partitions))
	return nil
}

func remove(r *program.Request) error {
	answer, err := client().DeleteTopics(context.Background(), &kafka.DeleteTopicsRequest{Topics: []string{r.Topic}})
	if err != nil {
		return err
	}
	return answer.Errors[r.Topic]
}

func produce(r *program.Request) error {
	writer := &kafka.Writer{
		Addr: kafka.TCP(address), Topic: r.Topic, Balancer: &kafka.Hash{}, RequiredAcks: kafka.RequireAll,
		Compression: codecs[r.Codec], BatchTimeout: 50 * time.Millisecond,
		// The default one knows only topics that were there some seconds ago.
		Transport: &kafka.Transport{},
	}
	defer writer.Close()
	var messages []kafka.Message
	for _, record := range r.Records {
		message := kafka.Message{Key: record.Key, Value: record.Value, Time: time.UnixMilli(record.Timestamp)}
		for _, header := range record.Headers {
			message.Headers = append(message.Headers, kafka.Header{Key: header.Name, Value: header.Value})
		}
		messages = append(messages, message)
	}
	return writer.WriteMessages(context.Background(), messages...)
}

func consume(r *program.Request) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for partition, offset := range r.From {
		reader := kafka.NewReader(kafka.ReaderConfig{
			Brokers: []string{address}, Topic: r.Topic, Partition: int(partition), MaxWait: 200 * time.Millisecond,
		})
		if err := reader.SetOffset(offset); err != nil {
			return err
		}
		for offset < r.To[partition] {
			message, err := reader.ReadMessage(ctx)
			if err != nil {
				return err
			}
			tell(message)
			offset = message.Offset + 1
		}
		if err := reader.Close(); err != nil {
			return err
		}
	}
	return nil
}

func offsets(r *program.Request) error {
	earliest, err := offsetsAt(r, kafka.FirstOffset)
	if err != nil {
		return err
	}
	latest, err := offsetsAt(r, kafka.LastOffset)
	if err != nil {
		return err
	}
	program.TellAll(map[string]any{"earliest": earliest, "latest": latest})
	for _, at := range r.Times {
		found, err := offsetsAt(r, at)
		if err != nil {
			return err
		}
		program.TellAll(map[string]any{"time": at, "offsets": found})
	}
	return nil
}

// At a time, the first, or the last: both are negative times.
func offsetsAt(r *program.Request, time int64) ([]int64, error) {
	var found []int64
	for partition := range int(r.Partitions) {
		leader, err := kafka.DialLeader(context.Background(), "tcp", address, r.Topic, partition)
		if err != nil {
			return nil, err
		}
		offset, err := offsetAt(leader, time)
		leader.Close()
		if err != nil {
			return nil, fmt.Errorf("partition %d: %w", partition, err)
		}
		found = append(found, offset)
	}
	return found, nil
}

func offsetAt(leader *kafka.Conn, at int64) (int64, error) {
	switch at {
	case kafka.FirstOffset:
		return leader.ReadFirstOffset()
	case kafka.LastOffset:
		return leader.ReadLastOffset()
	default:
		return leader.ReadOffset(time.UnixMilli(at))
	}
}

func group(r *program.Request) error {
	reader := kafka.NewReader(kafka.ReaderConfig{
		Brokers: []string{address}, Topic: r.Topic, GroupID: r.Group, StartOffset: kafka.FirstOffset,
		HeartbeatInterval: 500 * time.Millisecond, MaxWait: 200 * time.Millisecond,
	})
	ctx, cancel := context.WithCancel(context.Background())
	stop := program.Stop()
	go func() {
		<-stop
		cancel()
	}()
	for {
		message, err := reader.FetchMessage(ctx)
		if errors.Is(err, context.Canceled) {
			return reader.Close()
		}
		if err != nil {
			return err
		}
		if err := reader.CommitMessages(context.Background(), message); err != nil {
			program.Tell("not_committed", err.Error())
			continue
		}
		tell(message)
	}
}

func tell(message kafka.Message) {
	told := program.Record{
		Partition: int32(message.Partition), Offset: message.Offset, Timestamp: message.Time.UnixMilli(),
		Key: message.Key, Value: message.Value, Headers: []program.Header{},
	}
	for _, header := range message.Headers {
		told.Headers = append(told.Headers, program.Header{Name: header.Key, Value: header.Value})
	}
	program.Tell("record", told)
}
