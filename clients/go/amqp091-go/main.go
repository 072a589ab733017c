// AMQP 0-9-1 with amqp091-go: publish with confirms, consume, get, settle, exchanges, returns, errors.
//
//	go run ./amqp091-go HOST:PORT   (or KOINE_AMQP=HOST:PORT; usual: 127.0.0.1:5672)
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"koine/clients/checks"
)

var (
	broker = checks.Address("KOINE_AMQP", "127.0.0.1:5672")
	bodies = [][]byte{{}, {0}, []byte("text"), bytes.Repeat([]byte{5}, 131_072), bytes.Repeat([]byte{6}, 1_000_000)}
)

func dial(password string) (*amqp.Connection, error) {
	return amqp.Dial(fmt.Sprintf("amqp://guest:%s@%s/", password, broker))
}

// withChannel runs a check on a fresh connection with confirms on.
func withChannel(check func(context.Context, *amqp.Channel) error) func(context.Context) error {
	return func(ctx context.Context) error {
		connection, err := dial("guest")
		if err != nil {
			return err
		}
		defer connection.Close()
		channel, err := connection.Channel()
		if err != nil {
			return err
		}
		if err := channel.Confirm(false); err != nil {
			return err
		}
		return check(ctx, channel)
	}
}

func declare(channel *amqp.Channel, name string) error {
	_, err := channel.QueueDeclare(name, true, false, false, false, nil)
	return err
}

// publish waits for the broker's confirm.
func publish(ctx context.Context, channel *amqp.Channel, exchange, key string, message amqp.Publishing) error {
	confirm, err := channel.PublishWithDeferredConfirmWithContext(ctx, exchange, key, true, false, message)
	if err != nil {
		return err
	}
	acked, err := confirm.WaitContext(ctx)
	if err != nil {
		return err
	}
	return checks.Same("acked", acked, true)
}

func message(body []byte) amqp.Publishing {
	return amqp.Publishing{
		ContentType: "text/plain", ContentEncoding: "utf-8", DeliveryMode: amqp.Persistent, Priority: 3,
		CorrelationId: "c", ReplyTo: "r", MessageId: "m", Timestamp: time.Unix(1_700_000_000, 0), Type: "t",
		AppId: "amqp091-go", Body: body,
		Headers: amqp.Table{
			"int32": int32(7), "int64": int64(1) << 40, "text": "κοινή", "flag": true, "none": nil, "double": 1.5,
			"bytes": []byte{0, 255}, "time": time.Unix(1_700_000_000, 0),
			"list": []any{int32(1), "two"}, "table": amqp.Table{"a": amqp.Table{"b": int32(1)}},
		},
	}
}

func publishAndConsume(ctx context.Context, channel *amqp.Channel) error {
	queue := checks.Unique("amqp091")
	if err := declare(channel, queue); err != nil {
		return err
	}
	for _, body := range bodies {
		if err := publish(ctx, channel, "", queue, message(body)); err != nil {
			return err
		}
	}
	deliveries, err := channel.ConsumeWithContext(ctx, queue, "tag", false, false, false, false, nil)
	if err != nil {
		return err
	}
	for _, body := range bodies {
		got, open := <-deliveries
		if !open {
			return errors.New("the consumer ended")
		}
		want := message(body)
		sides := [][2]any{
			{bytes.Equal(got.Body, body), true}, {got.Headers, want.Headers}, {got.ContentType, want.ContentType},
			{got.DeliveryMode, want.DeliveryMode}, {got.Priority, want.Priority}, {got.ReplyTo, want.ReplyTo},
			{got.CorrelationId, want.CorrelationId}, {got.MessageId, want.MessageId}, {got.Type, want.Type},
			{got.Timestamp, want.Timestamp}, {got.AppId, want.AppId}, {got.RoutingKey, queue}, {got.Redelivered, false},
		}
		for _, side := range sides {
			if err := checks.Same("delivery", side[0], side[1]); err != nil {
				return err
			}
		}
		if err := got.Ack(false); err != nil {
			return err
		}
	}
	_, err = channel.QueueDelete(queue, false, true, false)
	return err
}

func get(channel *amqp.Channel, queue string) (amqp.Delivery, error) {
	delivery, ok, err := channel.Get(queue, false)
	if err == nil && !ok {
		err = fmt.Errorf("%s is empty", queue)
	}
	return delivery, err
}

func settle(ctx context.Context, channel *amqp.Channel) error {
	queue := checks.Unique("amqp091-settle")
	if err := declare(channel, queue); err != nil {
		return err
	}
	for _, text := range []string{"one", "two"} {
		if err := publish(ctx, channel, "", queue, amqp.Publishing{Body: []byte(text)}); err != nil {
			return err
		}
	}
	steps := []struct {
		body        string
		redelivered bool
		settle      func(amqp.Delivery) error
	}{
		{"one", false, func(d amqp.Delivery) error { return d.Nack(false, true) }},
		{"one", true, func(d amqp.Delivery) error { return d.Ack(false) }},
		{"two", false, func(d amqp.Delivery) error { return d.Reject(false) }},
	}
	for _, step := range steps {
		got, err := get(channel, queue)
		if err != nil {
			return err
		}
		if err := checks.Same("body", string(got.Body), step.body); err != nil {
			return err
		}
		if err := checks.Same("redelivered", got.Redelivered, step.redelivered); err != nil {
			return err
		}
		if err := step.settle(got); err != nil {
			return err
		}
	}
	_, ok, err := channel.Get(queue, false)
	if err != nil {
		return err
	}
	return checks.Same("left", ok, false)
}

func prefetch(ctx context.Context, channel *amqp.Channel) error {
	queue := checks.Unique("amqp091-prefetch")
	if err := declare(channel, queue); err != nil {
		return err
	}
	for range 4 {
		if err := publish(ctx, channel, "", queue, amqp.Publishing{Body: []byte("x")}); err != nil {
			return err
		}
	}
	if err := channel.Qos(2, 0, false); err != nil {
		return err
	}
	deliveries, err := channel.ConsumeWithContext(ctx, queue, "tag", false, false, false, false, nil)
	if err != nil {
		return err
	}
	<-deliveries
	second := <-deliveries
	select {
	case <-deliveries:
		return errors.New("a third message before the acknowledgement")
	case <-time.After(300 * time.Millisecond):
	}
	if err := second.Ack(true); err != nil {
		return err
	}
	<-deliveries
	<-deliveries
	return ctx.Err()
}

func exchanges(ctx context.Context, channel *amqp.Channel) error {
	returns := channel.NotifyReturn(make(chan amqp.Return, 8))
	all := amqp.Table{"x-match": "all", "colour": "red", "size": int32(3)}
	cases := []struct {
		kind, binding string
		arguments     amqp.Table
		hit           string
		hitHeaders    amqp.Table
		miss          string
	}{
		{"direct", "red", nil, "red", nil, "blue"},
		{"topic", "a.#.z", nil, "a.z", nil, "a.b"},
		{"fanout", "", nil, "any", nil, ""},
		{"headers", "", all, "", amqp.Table{"colour": "red", "size": int32(3)}, "none"},
	}
	for _, c := range cases {
		exchange, queue := checks.Unique("amqp091-x"), checks.Unique("amqp091-q")
		if err := channel.ExchangeDeclare(exchange, c.kind, true, false, false, false, nil); err != nil {
			return err
		}
		if err := declare(channel, queue); err != nil {
			return err
		}
		if err := channel.QueueBind(queue, c.binding, exchange, false, c.arguments); err != nil {
			return err
		}
		if err := publish(ctx, channel, exchange, c.hit, amqp.Publishing{Body: []byte("hit"), Headers: c.hitHeaders}); err != nil {
			return err
		}
		if c.miss != "" {
			if err := publish(ctx, channel, exchange, c.miss, amqp.Publishing{Body: []byte("miss")}); err != nil {
				return err
			}
			if err := checks.Same("return code", (<-returns).ReplyCode, uint16(312)); err != nil {
				return err
			}
		}
		got, err := get(channel, queue)
		if err != nil {
			return err
		}
		if err := checks.Same(c.kind, []string{string(got.Body), got.Exchange, got.RoutingKey}, []string{"hit", exchange, c.hit}); err != nil {
			return err
		}
		if err := channel.ExchangeDelete(exchange, false, false); err != nil {
			return err
		}
		if _, err := channel.QueueDelete(queue, false, false, false); err != nil {
			return err
		}
	}
	return nil
}

func cancelNotify(_ context.Context, channel *amqp.Channel) error {
	queue := checks.Unique("amqp091-cancel")
	if err := declare(channel, queue); err != nil {
		return err
	}
	cancelled := channel.NotifyCancel(make(chan string, 1))
	if _, err := channel.Consume(queue, "tag", true, false, false, false, nil); err != nil {
		return err
	}
	if _, err := channel.QueueDelete(queue, false, false, false); err != nil {
		return err
	}
	return checks.Same("tag", <-cancelled, "tag")
}

// refused passes if the broker answered with this AMQP reply code.
func refused(err error, code int) error {
	var reply *amqp.Error
	if !errors.As(err, &reply) {
		return fmt.Errorf("want code %d, got %v", code, err)
	}
	return checks.Same("code", reply.Code, code)
}

func errorMissing(_ context.Context, channel *amqp.Channel) error {
	_, err := channel.QueueDeclarePassive(checks.Unique("nobody"), true, false, false, false, nil)
	return refused(err, amqp.NotFound)
}

func errorRedeclared(_ context.Context, channel *amqp.Channel) error {
	queue := checks.Unique("amqp091-twice")
	if err := declare(channel, queue); err != nil {
		return err
	}
	_, err := channel.QueueDeclare(queue, true, true, false, false, nil)
	return refused(err, amqp.PreconditionFailed)
}

func errorReserved(_ context.Context, channel *amqp.Channel) error {
	return refused(channel.ExchangeDeclare("amq.mine", "topic", true, false, false, false, nil), amqp.AccessRefused)
}

func errorExclusive(_ context.Context, channel *amqp.Channel) error {
	queue := checks.Unique("amqp091-exclusive")
	if _, err := channel.QueueDeclare(queue, false, false, true, false, nil); err != nil {
		return err
	}
	return withChannel(func(_ context.Context, other *amqp.Channel) error {
		_, err := other.QueueDeclarePassive(queue, false, false, false, false, nil)
		return refused(err, amqp.ResourceLocked)
	})(context.Background())
}

func errorLogin(context.Context) error {
	_, err := dial("wrong")
	return refused(err, amqp.AccessRefused)
}

func main() {
	checks.Run([]checks.Check{
		{Name: "publish-consume-confirm", Run: withChannel(publishAndConsume)},
		{Name: "settle", Run: withChannel(settle)},
		{Name: "prefetch", Run: withChannel(prefetch)},
		{Name: "exchanges", Run: withChannel(exchanges)},
		{Name: "cancel-notify", Run: withChannel(cancelNotify)},
		{Name: "error-missing-queue", Run: withChannel(errorMissing)},
		{Name: "error-redeclared", Run: withChannel(errorRedeclared)},
		{Name: "error-reserved-name", Run: withChannel(errorReserved)},
		{Name: "error-exclusive", Run: withChannel(errorExclusive)},
		{Name: "error-login", Run: errorLogin},
	})
}
