// sarama as a program: what it is asked and how it answers stands in tests/clients/__init__.py.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"clients/program"

	"github.com/IBM/sarama"
)

var codecs = map[string]sarama.CompressionCodec{
	"none":   sarama.CompressionNone,
	"gzip":   sarama.CompressionGZIP,
	"snappy": sarama.CompressionSnappy,
	"lz4":    sarama.CompressionLZ4,
	"zstd":   sarama.CompressionZSTD,
}

var brokers = os.Args[1:2]

func main() {
	program.Serve(map[string]program.Operation{
		"create": create, "describe": describe, "delete": remove, "delete_records": deleteRecords,
		"produce": produce, "flood": flood, "consume": consume, "offsets": offsets, "group": group,
	})
}

func withAdmin(work func(sarama.ClusterAdmin) error) error {
	admin, err := sarama.NewClusterAdmin(brokers, sarama.NewConfig())
	if err != nil {
		return err
	}
	defer admin.Close()
	return work(admin)
}

func create(r *program.Request) error {
	return withAdmin(func(admin sarama.ClusterAdmin) error {
		return admin.CreateTopic(r.Topic, &sarama.TopicDetail{NumPartitions: r.Partitions, ReplicationFactor: 1}, false)
	})
}

func describe(r *program.Request) error {
	return withAdmin(func(admin sarama.ClusterAdmin) error {
		topics, err := admin.DescribeTopics([]string{r.Topic})
		if err != nil {
			return err
		}
		if topics[0].Err != sarama.ErrNoError {
			return topics[0].Err
		}
		program.Tell("partitions", len(topics[0].Partitions))
		return nil
	})
}

func remove(r *program.Request) error {
	return withAdmin(func(admin sarama.ClusterAdmin) error { return admin.DeleteTopic(r.Topic) })
}

func deleteRecords(r *program.Request) error {
	return withAdmin(func(admin sarama.ClusterAdmin) error { return admin.DeleteRecords(r.Topic, r.Before) })
}

func producing(r *program.Request) *sarama.Config {
	config := sarama.NewConfig()
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Compression = codecs[r.Codec]
	config.Producer.Flush.Frequency = 50 * time.Millisecond
	config.Producer.Return.Successes = true
	config.Producer.Idempotent = r.Idempotent
	if r.Idempotent {
		config.Net.MaxOpenRequests = 1
	}
	// The broker is away for some seconds.
	config.Producer.Retry.Max = 1000
	config.Metadata.Retry.Max = 1000
	return config
}

func produce(r *program.Request) error {
	producer, err := sarama.NewSyncProducer(brokers, producing(r))
	if err != nil {
		return err
	}
	defer producer.Close()
	var messages []*sarama.ProducerMessage
	for _, record := range r.Records {
		message := &sarama.ProducerMessage{
			Topic: r.Topic, Key: sarama.ByteEncoder(record.Key), Timestamp: time.UnixMilli(record.Timestamp),
		}
		if record.Value != nil {
			message.Value = sarama.ByteEncoder(record.Value)
		}
		for _, header := range record.Headers {
			message.Headers = append(message.Headers, sarama.RecordHeader{Key: []byte(header.Name), Value: header.Value})
		}
		messages = append(messages, message)
	}
	return producer.SendMessages(messages)
}

func flood(r *program.Request) error {
	config := producing(r)
	config.Producer.Partitioner = sarama.NewManualPartitioner
	producer, err := sarama.NewAsyncProducer(brokers, config)
	if err != nil {
		return err
	}
	room := make(chan struct{}, r.InFlight)
	acknowledged := make(chan struct{})
	go func() {
		defer close(acknowledged)
		count := 0
		for range producer.Successes() {
			count++
			program.Tell("acknowledged", count)
			<-room
		}
	}()
	var failed atomic.Pointer[sarama.ProducerError]
	go func() {
		for err := range producer.Errors() {
			failed.Store(err)
			<-room
		}
	}()
	stop := program.Stop()
	sent := 0
	for !program.Stopped(stop) && failed.Load() == nil {
		room <- struct{}{}
		value := sarama.ByteEncoder(fmt.Append(nil, sent))
		producer.Input() <- &sarama.ProducerMessage{Topic: r.Topic, Partition: 0, Value: value}
		sent++
	}
	producer.AsyncClose()
	<-acknowledged
	if err := failed.Load(); err != nil {
		return err
	}
	program.Tell("sent", sent)
	return nil
}

func consume(r *program.Request) error {
	consumer, err := sarama.NewConsumer(brokers, sarama.NewConfig())
	if err != nil {
		return err
	}
	defer consumer.Close()
	for partition, offset := range r.From {
		if err := consumePartition(consumer, r.Topic, partition, offset, r.To[partition]); err != nil {
			return err
		}
	}
	return nil
}

func consumePartition(consumer sarama.Consumer, topic string, partition int32, from, to int64) error {
	messages, err := consumer.ConsumePartition(topic, partition, from)
	if err != nil {
		return err
	}
	defer messages.Close()
	deadline := time.After(time.Minute)
	for from < to {
		select {
		case message := <-messages.Messages():
			tell(message)
			from = message.Offset + 1
		case <-deadline:
			return errors.New("not all came within a minute")
		}
	}
	return nil
}

func offsets(r *program.Request) error {
	client, err := sarama.NewClient(brokers, sarama.NewConfig())
	if err != nil {
		return err
	}
	defer client.Close()
	earliest, err := offsetsAt(client, r, sarama.OffsetOldest)
	if err != nil {
		return err
	}
	latest, err := offsetsAt(client, r, sarama.OffsetNewest)
	if err != nil {
		return err
	}
	program.TellAll(map[string]any{"earliest": earliest, "latest": latest})
	for _, at := range r.Times {
		found, err := offsetsAt(client, r, at)
		if err != nil {
			return err
		}
		program.TellAll(map[string]any{"time": at, "offsets": found})
	}
	return nil
}

func offsetsAt(client sarama.Client, r *program.Request, time int64) ([]int64, error) {
	var found []int64
	for partition := range r.Partitions {
		offset, err := client.GetOffset(r.Topic, partition, time)
		if err != nil {
			return nil, err
		}
		found = append(found, offset)
	}
	return found, nil
}

func group(r *program.Request) error {
	config := sarama.NewConfig()
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.Group.Heartbeat.Interval = 500 * time.Millisecond
	config.Consumer.Group.Session.Timeout = 30 * time.Second
	config.Consumer.MaxWaitTime = 200 * time.Millisecond
	group, err := sarama.NewConsumerGroup(brokers, r.Group, config)
	if err != nil {
		return err
	}
	defer group.Close()
	ctx, cancel := context.WithCancel(context.Background())
	stop := program.Stop()
	go func() {
		<-stop
		cancel()
	}()
	// Each call is a generation.
	for ctx.Err() == nil {
		if err := group.Consume(ctx, []string{r.Topic}, member{}); err != nil {
			return err
		}
	}
	return nil
}

type member struct{}

func (member) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (member) Cleanup(sarama.ConsumerGroupSession) error { return nil }

// ConsumeClaim tells what it marks: sarama commits what is marked, also when a generation ends.
func (member) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for message := range claim.Messages() {
		session.MarkMessage(message, "")
		session.Commit()
		tell(message)
	}
	return nil
}

func tell(message *sarama.ConsumerMessage) {
	told := program.Record{
		Partition: message.Partition, Offset: message.Offset, Timestamp: message.Timestamp.UnixMilli(),
		Key: message.Key, Value: message.Value, Headers: []program.Header{},
	}
	for _, header := range message.Headers {
		told.Headers = append(told.Headers, program.Header{Name: string(header.Key), Value: header.Value})
	}
	program.Tell("record", told)
}
