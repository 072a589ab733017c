// Logs in with franz-go or amqp091-go, over TLS if told so, and says what became of it.
//
//	secure LIBRARY MODE HOST:PORT [key=value ...]
//
// LIBRARY is franz-go or amqp091-go. MODE is
//   - login: writes a message and reads it back
//   - refused: expects the library's own error for a login that failed
//   - revoked: works until the user has lost its rights: says `ready` at first and `lost` at the end
//
// Keys: user, password, mechanism (PLAIN, AMQPLAIN, SCRAM-SHA-256, SCRAM-SHA-512, EXTERNAL), ca, cert, key.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"koine/clients/checks"
)

const (
	limit = 20 * time.Second
	// writeLimit is how long a write may take before it counts as refused: a client tries again in vain.
	writeLimit = 500 * time.Millisecond
	retryPause = 20 * time.Millisecond
)

var body = []byte("body")

// login is what the command line says.
type login struct {
	mode, address string
	options       map[string]string
}

// tls is nil without a certificate authority.
func (l login) tls() (*tls.Config, error) {
	if l.options["ca"] == "" {
		return nil, nil
	}
	authority, err := os.ReadFile(l.options["ca"])
	if err != nil {
		return nil, err
	}
	config := &tls.Config{RootCAs: x509.NewCertPool()}
	if !config.RootCAs.AppendCertsFromPEM(authority) {
		return nil, errors.New("no certificate in " + l.options["ca"])
	}
	if l.options["cert"] != "" {
		pair, err := tls.LoadX509KeyPair(l.options["cert"], l.options["key"])
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

func (l login) kafkaClient(options ...kgo.Opt) (*kgo.Client, error) {
	options = append(options, kgo.SeedBrokers(l.address), kgo.AllowAutoTopicCreation(),
		// A write in vain notices that its time is up only between two attempts.
		kgo.RetryBackoffFn(func(int) time.Duration { return retryPause }))
	config, err := l.tls()
	if err != nil {
		return nil, err
	}
	if config != nil {
		options = append(options, kgo.DialTLSConfig(config))
	}
	user, password := l.options["user"], l.options["password"]
	switch l.options["mechanism"] {
	case "EXTERNAL":
	case "SCRAM-SHA-256":
		options = append(options, kgo.SASL(scram.Auth{User: user, Pass: password}.AsSha256Mechanism()))
	case "SCRAM-SHA-512":
		options = append(options, kgo.SASL(scram.Auth{User: user, Pass: password}.AsSha512Mechanism()))
	default:
		options = append(options, kgo.SASL(plain.Auth{User: user, Pass: password}.AsMechanism()))
	}
	return kgo.NewClient(options...)
}

func kafka(ctx context.Context, l login) error {
	topic := checks.Unique("secure")
	cl, err := l.kafkaClient(kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableIdempotentWrite())
	if err != nil {
		return err
	}
	defer cl.Close()
	if l.mode == "refused" {
		return checks.Refused(cl.Ping(ctx), kerr.SaslAuthenticationFailed)
	}
	write := func(limit time.Duration) error {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		return cl.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: body}).FirstErr()
	}
	if err := write(limit); err != nil {
		return err
	}
	if l.mode == "revoked" {
		fmt.Println("ready")
		for write(writeLimit) == nil {
			time.Sleep(time.Millisecond)
		}
		fmt.Println("lost")
		return nil
	}
	for {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		// The topic may be new to the reader, which then asks again.
		if read := fetches.Records(); len(read) > 0 {
			return checks.Same("record", read[0].Value, body)
		}
	}
}

func (l login) amqpConnection() (*amqp.Connection, error) {
	config, err := l.tls()
	if err != nil {
		return nil, err
	}
	scheme := "amqp"
	if config != nil {
		scheme = "amqps"
	}
	user, password := l.options["user"], l.options["password"]
	var mechanism amqp.Authentication
	switch l.options["mechanism"] {
	case "EXTERNAL":
		mechanism = &amqp.ExternalAuth{}
	case "AMQPLAIN":
		mechanism = &amqp.AMQPlainAuth{Username: user, Password: password}
	default:
		mechanism = &amqp.PlainAuth{Username: user, Password: password}
	}
	settings := amqp.Config{SASL: []amqp.Authentication{mechanism}, TLSClientConfig: config}
	return amqp.DialConfig(fmt.Sprintf("%s://%s/", scheme, l.address), settings)
}

// rabbit expects the error that the library keeps for wrong credentials alone.
func rabbit(ctx context.Context, l login) error {
	connection, err := l.amqpConnection()
	if l.mode == "refused" {
		return checks.Refused(err, amqp.ErrCredentials)
	}
	if err != nil {
		return err
	}
	defer connection.Close()
	ended := connection.NotifyClose(make(chan *amqp.Error, 1))
	channel, err := connection.Channel()
	if err != nil {
		return err
	}
	queue := checks.Unique("secure")
	if _, err := channel.QueueDeclare(queue, true, false, false, false, nil); err != nil {
		return err
	}
	if err := channel.PublishWithContext(ctx, "", queue, true, false, amqp.Publishing{Body: body}); err != nil {
		return err
	}
	deliveries, err := channel.ConsumeWithContext(ctx, queue, "", true, false, false, false, nil)
	if err != nil {
		return err
	}
	select {
	case delivery := <-deliveries:
		if err := checks.Same("delivery", delivery.Body, body); err != nil {
			return err
		}
	case <-ctx.Done():
		return ctx.Err()
	}
	if l.mode == "revoked" {
		fmt.Println("ready")
		select {
		case <-ended:
			fmt.Println("lost")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func main() {
	library := os.Args[1]
	l := login{mode: os.Args[2], address: os.Args[3], options: map[string]string{}}
	for _, argument := range os.Args[4:] {
		key, value, _ := strings.Cut(argument, "=")
		l.options[key] = value
	}
	libraries := map[string]func(context.Context, login) error{"franz-go": kafka, "amqp091-go": rabbit}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := libraries[library](ctx, l); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("ok", library, l.mode)
}
