// Kafka with franz-go: produce (idempotent by default), consume, compression, groups, admin, errors.
//
//	go run ./franz-go HOST:PORT   (or KOINE_KAFKA=HOST:PORT; usual: 127.0.0.1:9092)
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"koine/clients/checks"
)

const records = 100

var broker = checks.Address("KOINE_KAFKA", "127.0.0.1:9092")

// startMs is the first record's time. Recent: what is older than the retention time may go at any moment.
var startMs = time.Now().UnixMilli() - 60_000

func client(options ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(broker)}, options...)...)
}

// withAdmin runs a call with an admin client.
func withAdmin(call func(*kadm.Client) error) error {
	cl, err := client()
	if err != nil {
		return err
	}
	defer cl.Close()
	return call(kadm.NewClient(cl))
}

func createTopic(ctx context.Context, topic string, partitions int32) error {
	return withAdmin(func(admin *kadm.Client) error {
		_, err := admin.CreateTopic(ctx, partitions, 1, nil, topic)
		return err
	})
}

func record(topic string, i, partitions int) *kgo.Record {
	return &kgo.Record{
		Topic:     topic,
		Partition: int32(i % partitions),
		Key:       []byte("key-" + strconv.Itoa(i)),
		Value:     bytes.Repeat([]byte{byte(i)}, i*10),
		Timestamp: time.UnixMilli(startMs + int64(i)),
		Headers: []kgo.RecordHeader{
			{Key: "number", Value: []byte(strconv.Itoa(i))},
			{Key: "null"},
			{Key: "number", Value: []byte{0, 255}},
		},
	}
}

func sendAll(ctx context.Context, topic string, partitions int, options ...kgo.Opt) error {
	cl, err := client(append(options, kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		return err
	}
	defer cl.Close()
	var all []*kgo.Record
	for i := range records {
		all = append(all, record(topic, i, partitions))
	}
	results := cl.ProduceSync(ctx, all...)
	if err := results.FirstErr(); err != nil {
		return err
	}
	last := results[records-1].Record
	return checks.Same("last offset", last.Offset, int64(records/partitions-1))
}

// readSome returns exactly count records.
func readSome(ctx context.Context, cl *kgo.Client, count int) ([]*kgo.Record, error) {
	var read []*kgo.Record
	for len(read) < count {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, err
		}
		read = append(read, fetches.Records()...)
	}
	return read, checks.Same("record count", len(read), count)
}

func reader(topic string, at kgo.Offset) (*kgo.Client, error) {
	partitions := map[string]map[int32]kgo.Offset{topic: {0: at}}
	return client(kgo.ConsumePartitions(partitions), kgo.FetchMaxWait(200*time.Millisecond))
}

func produceAndConsume(options ...kgo.Opt) func(context.Context) error {
	return func(ctx context.Context) error {
		topic := checks.Unique("franz")
		if err := createTopic(ctx, topic, 1); err != nil {
			return err
		}
		if err := sendAll(ctx, topic, 1, options...); err != nil {
			return err
		}
		cl, err := reader(topic, kgo.NewOffset().AtStart())
		if err != nil {
			return err
		}
		defer cl.Close()
		read, err := readSome(ctx, cl, records)
		if err != nil {
			return err
		}
		for i, got := range read {
			want := record(topic, i, 1)
			sides := [][2]any{
				{got.Offset, int64(i)}, {got.Key, want.Key}, {len(got.Value), len(want.Value)},
				{bytes.Equal(got.Value, want.Value), true}, {got.Headers, want.Headers},
				{got.Timestamp.UnixMilli(), want.Timestamp.UnixMilli()},
			}
			for _, side := range sides {
				if err := checks.Same("record "+strconv.Itoa(i), side[0], side[1]); err != nil {
					return err
				}
			}
		}
		return nil
	}
}

func autoCreate(ctx context.Context) error {
	cl, err := client(kgo.AllowAutoTopicCreation())
	if err != nil {
		return err
	}
	defer cl.Close()
	return cl.ProduceSync(ctx, &kgo.Record{Topic: checks.Unique("franz-auto"), Value: []byte("v")}).FirstErr()
}

func member(group, topic string) (*kgo.Client, error) {
	return client(kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(200*time.Millisecond))
}

// group: a member reads and commits; its successor sees only what came later.
func group(ctx context.Context) error {
	topic, name := checks.Unique("franz-group"), checks.Unique("group")
	if err := createTopic(ctx, topic, 4); err != nil {
		return err
	}
	if err := sendAll(ctx, topic, 4); err != nil {
		return err
	}
	first, err := member(name, topic)
	if err != nil {
		return err
	}
	read, err := readSome(ctx, first, records)
	if err != nil {
		return err
	}
	if err := first.CommitRecords(ctx, read...); err != nil {
		return err
	}
	first.Close()
	late, err := client()
	if err != nil {
		return err
	}
	defer late.Close()
	if err := late.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte("late")}).FirstErr(); err != nil {
		return err
	}
	second, err := member(name, topic)
	if err != nil {
		return err
	}
	read, err = readSome(ctx, second, 1)
	second.Close()
	if err != nil {
		return err
	}
	if err := checks.Same("after the commit", string(read[0].Value), "late"); err != nil {
		return err
	}
	return groupAdmin(ctx, name, topic)
}

// groupAdmin reads the lag of a group, lists it and deletes it.
func groupAdmin(ctx context.Context, name, topic string) error {
	return withAdmin(func(admin *kadm.Client) error {
		lags, err := admin.Lag(ctx, name)
		if err != nil {
			return err
		}
		if err := lags.Error(); err != nil {
			return err
		}
		if err := checks.Same("lag", lags[name].Lag.Total(), int64(1)); err != nil {
			return err
		}
		listed, err := admin.ListGroups(ctx)
		if err != nil {
			return err
		}
		if _, present := listed[name]; !present {
			return errors.New("the group is not listed")
		}
		deleted, err := admin.DeleteGroups(ctx, name)
		if err != nil {
			return err
		}
		return deleted.Error()
	})
}

// offsets: start, end, by time; and the epoch that a reader checks for truncation.
func offsets(ctx context.Context) error {
	topic := checks.Unique("franz-offsets")
	if err := createTopic(ctx, topic, 1); err != nil {
		return err
	}
	if err := sendAll(ctx, topic, 1); err != nil {
		return err
	}
	return withAdmin(func(admin *kadm.Client) error {
		for _, want := range []struct {
			list   func() (kadm.ListedOffsets, error)
			offset int64
		}{
			{func() (kadm.ListedOffsets, error) { return admin.ListStartOffsets(ctx, topic) }, 0},
			{func() (kadm.ListedOffsets, error) { return admin.ListEndOffsets(ctx, topic) }, records},
			{func() (kadm.ListedOffsets, error) { return admin.ListOffsetsAfterMilli(ctx, startMs+42, topic) }, 42},
		} {
			listed, err := want.list()
			if err != nil {
				return err
			}
			found, _ := listed.Lookup(topic, 0)
			if err := checks.Same("offset", found.Offset, want.offset); err != nil {
				return err
			}
		}
		epochs, err := admin.OffsetForLeaderEpoch(ctx, func() kadm.OffsetForLeaderEpochRequest {
			var request kadm.OffsetForLeaderEpochRequest
			request.Add(topic, 0, 0)
			return request
		}())
		if err != nil {
			return err
		}
		return epochs[topic][0].Err
	})
}

func adminTopics(ctx context.Context) error {
	topic := checks.Unique("franz-admin")
	if err := createTopic(ctx, topic, 2); err != nil {
		return err
	}
	return withAdmin(func(admin *kadm.Client) error {
		grown, err := admin.UpdatePartitions(ctx, 5, topic)
		if err != nil {
			return err
		}
		if err := grown.Error(); err != nil {
			return err
		}
		value := "3600000"
		changes := []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.ms", Value: &value}}
		altered, err := admin.AlterTopicConfigs(ctx, changes, topic)
		if err != nil {
			return err
		}
		if altered[0].Err != nil {
			return altered[0].Err
		}
		configs, err := admin.DescribeTopicConfigs(ctx, topic)
		if err != nil {
			return err
		}
		found := ""
		for _, config := range configs[0].Configs {
			if config.Key == "retention.ms" {
				found = config.MaybeValue()
			}
		}
		if err := checks.Same("retention.ms", found, value); err != nil {
			return err
		}
		deleted, err := admin.DeleteTopics(ctx, topic)
		if err != nil {
			return err
		}
		return deleted.Error()
	})
}

func deleteRecords(ctx context.Context) error {
	topic := checks.Unique("franz-delete")
	if err := createTopic(ctx, topic, 1); err != nil {
		return err
	}
	if err := sendAll(ctx, topic, 1); err != nil {
		return err
	}
	return withAdmin(func(admin *kadm.Client) error {
		before := kadm.Offsets{}
		before.Add(kadm.Offset{Topic: topic, Partition: 0, At: 30})
		deleted, err := admin.DeleteRecords(ctx, before)
		if err != nil {
			return err
		}
		if err := deleted.Error(); err != nil {
			return err
		}
		return checks.Same("low watermark", deleted[topic][0].LowWatermark, int64(30))
	})
}

func errorTopicExists(ctx context.Context) error {
	topic := checks.Unique("franz-twice")
	if err := createTopic(ctx, topic, 1); err != nil {
		return err
	}
	return checks.Refused(createTopic(ctx, topic, 1), kerr.TopicAlreadyExists)
}

func errorTopicName(ctx context.Context) error {
	return checks.Refused(createTopic(ctx, "not/a topic", 1), kerr.InvalidTopicException)
}

func errorPartitions(ctx context.Context) error {
	return checks.Refused(createTopic(ctx, checks.Unique("franz-zero"), 0), kerr.InvalidPartitions)
}

func errorUnknownTopic(ctx context.Context) error {
	return withAdmin(func(admin *kadm.Client) error {
		deleted, err := admin.DeleteTopics(ctx, checks.Unique("nobody"))
		if err != nil {
			return err
		}
		return checks.Refused(deleted.Error(), kerr.UnknownTopicOrPartition)
	})
}

func errorTooLarge(ctx context.Context) error {
	topic := checks.Unique("franz-large")
	if err := createTopic(ctx, topic, 1); err != nil {
		return err
	}
	cl, err := client(kgo.ProducerBatchMaxBytes(8_000_000), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		return err
	}
	defer cl.Close()
	large := &kgo.Record{Topic: topic, Value: bytes.Repeat([]byte{7}, 2_000_000)}
	return checks.Refused(cl.ProduceSync(ctx, large).FirstErr(), kerr.MessageTooLarge)
}

func errorOutOfRange(ctx context.Context) error {
	topic := checks.Unique("franz-range")
	if err := createTopic(ctx, topic, 1); err != nil {
		return err
	}
	partitions := map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().At(1_000_000)}}
	cl, err := client(kgo.ConsumePartitions(partitions), kgo.ConsumeResetOffset(kgo.NoResetOffset()))
	if err != nil {
		return err
	}
	defer cl.Close()
	return checks.Refused(cl.PollFetches(ctx).Err(), kerr.OffsetOutOfRange)
}

func main() {
	all := []checks.Check{{Name: "produce-consume", Run: produceAndConsume()}}
	for name, codec := range map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	} {
		run := produceAndConsume(kgo.ProducerBatchCompression(codec))
		all = append(all, checks.Check{Name: fmt.Sprintf("compression-%s", name), Run: run})
	}
	checks.Run(append(all,
		checks.Check{Name: "auto-create", Run: autoCreate},
		checks.Check{Name: "group", Run: group},
		checks.Check{Name: "offsets", Run: offsets},
		checks.Check{Name: "admin-topics", Run: adminTopics},
		checks.Check{Name: "delete-records", Run: deleteRecords},
		checks.Check{Name: "error-topic-exists", Run: errorTopicExists},
		checks.Check{Name: "error-topic-name", Run: errorTopicName},
		checks.Check{Name: "error-partitions", Run: errorPartitions},
		checks.Check{Name: "error-unknown-topic", Run: errorUnknownTopic},
		checks.Check{Name: "error-too-large", Run: errorTooLarge},
		checks.Check{Name: "error-out-of-range", Run: errorOutOfRange},
	))
}
