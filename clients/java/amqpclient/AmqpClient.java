package amqpclient;

import static checks.Checks.TIMEOUT_MS;
import static checks.Checks.refused;
import static checks.Checks.same;
import static checks.Checks.unique;

import checks.Checks;
import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.AuthenticationFailureException;
import com.rabbitmq.client.BuiltinExchangeType;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.Delivery;
import com.rabbitmq.client.GetResponse;
import com.rabbitmq.client.LongString;
import com.rabbitmq.client.ShutdownSignalException;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Date;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/**
 * AMQP 0-9-1 with the RabbitMQ Java client: publish with confirms, consume, get, settle, exchanges, returns, errors.
 *
 * <p>{@code java amqpclient.AmqpClient HOST:PORT}, or {@code KOINE_AMQP=HOST:PORT}; usual: 127.0.0.1:5672.
 */
public final class AmqpClient {
    private static final int[] SIZES = {0, 1, 1_000, 131_072, 1_000_000};
    private static String broker;

    private AmqpClient() {}

    private static Connection connect(String password) throws Exception {
        ConnectionFactory factory = new ConnectionFactory();
        factory.setUri("amqp://guest:" + password + "@" + broker + "/%2f");
        factory.setAutomaticRecoveryEnabled(false);
        return factory.newConnection();
    }

    private static Channel channel() throws Exception {
        Channel channel = connect("guest").createChannel();
        channel.confirmSelect();
        return channel;
    }

    private static String queue(Channel channel, String prefix) throws Exception {
        return channel.queueDeclare(unique(prefix), true, false, false, null).getQueue();
    }

    private static byte[] utf8(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static byte[] body(int i) {
        byte[] body = new byte[SIZES[i]];
        Arrays.fill(body, (byte) (i + 1));
        return body;
    }

    private static AMQP.BasicProperties properties(int i) {
        Map<String, Object> headers = new HashMap<>();
        headers.put("int", i);
        headers.put("long", 1L << 40);
        headers.put("flag", true);
        headers.put("none", null);
        headers.put("double", 1.5);
        headers.put("date", new Date(1_700_000_000_000L));
        headers.put("list", List.of(1, 2));
        headers.put("table", Map.of("a", 1));
        return new AMQP.BasicProperties.Builder().contentType("text/plain").deliveryMode(2).priority(3)
                .correlationId("c-" + i).replyTo("r").messageId("m").type("t").appId("java")
                .timestamp(new Date(1_700_000_000_000L)).headers(headers).build();
    }

    private static void publishAndConsume() throws Exception {
        Channel channel = channel();
        String queue = queue(channel, "java");
        for (int i = 0; i < SIZES.length; i++) {
            channel.basicPublish("", queue, true, properties(i), body(i));
        }
        channel.waitForConfirmsOrDie(TIMEOUT_MS);
        BlockingQueue<Delivery> deliveries = new LinkedBlockingQueue<>();
        channel.basicConsume(queue, false, (tag, delivery) -> deliveries.add(delivery), tag -> {});
        for (int i = 0; i < SIZES.length; i++) {
            Delivery got = deliveries.poll(TIMEOUT_MS, TimeUnit.MILLISECONDS);
            same("delivered", got != null, true);
            same("body", got.getBody(), body(i));
            same("headers", got.getProperties().getHeaders(), properties(i).getHeaders());
            same("properties", got.getProperties().toString(), properties(i).toString());
            same("redelivered", got.getEnvelope().isRedeliver(), false);
            channel.basicAck(got.getEnvelope().getDeliveryTag(), false);
        }
        same("left", channel.queueDelete(queue).getMessageCount(), 0);
        channel.getConnection().close();
    }

    private static void settle() throws Exception {
        Channel channel = channel();
        String queue = queue(channel, "java-settle");
        for (String text : List.of("one", "two", "three")) {
            channel.basicPublish("", queue, null, utf8(text));
        }
        channel.waitForConfirmsOrDie(TIMEOUT_MS);
        GetResponse first = channel.basicGet(queue, false);
        channel.basicNack(first.getEnvelope().getDeliveryTag(), false, true);
        GetResponse again = channel.basicGet(queue, false);
        same("again", again.getBody(), utf8("one"));
        same("redelivered", again.getEnvelope().isRedeliver(), true);
        GetResponse second = channel.basicGet(queue, false);
        channel.basicAck(second.getEnvelope().getDeliveryTag(), true);
        channel.basicReject(channel.basicGet(queue, false).getEnvelope().getDeliveryTag(), false);
        same("empty", channel.basicGet(queue, false), null);
        channel.queueDelete(queue);
    }

    private static void prefetch() throws Exception {
        Channel channel = channel();
        String queue = queue(channel, "java-prefetch");
        for (int i = 0; i < 4; i++) {
            channel.basicPublish("", queue, null, new byte[] {(byte) i});
        }
        channel.waitForConfirmsOrDie(TIMEOUT_MS);
        channel.basicQos(2);
        BlockingQueue<Delivery> deliveries = new LinkedBlockingQueue<>();
        channel.basicConsume(queue, false, (tag, delivery) -> deliveries.add(delivery), tag -> {});
        deliveries.poll(TIMEOUT_MS, TimeUnit.MILLISECONDS);
        Delivery second = deliveries.poll(TIMEOUT_MS, TimeUnit.MILLISECONDS);
        same("third before the ack", deliveries.poll(300, TimeUnit.MILLISECONDS), null);
        channel.basicAck(second.getEnvelope().getDeliveryTag(), true);
        same("third", deliveries.poll(TIMEOUT_MS, TimeUnit.MILLISECONDS).getBody(), new byte[] {2});
        channel.queueDelete(queue);
    }

    private static void exchanges() throws Exception {
        Channel channel = channel();
        BlockingQueue<Integer> returns = new LinkedBlockingQueue<>();
        channel.addReturnListener(returned -> returns.add(returned.getReplyCode()));
        Map<BuiltinExchangeType, String[]> cases = new LinkedHashMap<>(); // binding, hit, miss
        cases.put(BuiltinExchangeType.DIRECT, new String[] {"red", "red", "blue"});
        cases.put(BuiltinExchangeType.TOPIC, new String[] {"*.*.rabbit", "a.b.rabbit", "a.rabbit"});
        cases.put(BuiltinExchangeType.FANOUT, new String[] {"", "any", null});
        for (Map.Entry<BuiltinExchangeType, String[]> entry : cases.entrySet()) {
            String[] keys = entry.getValue();
            String exchange = unique("java-x");
            String queue = queue(channel, "java-q");
            channel.exchangeDeclare(exchange, entry.getKey(), true);
            channel.queueBind(queue, exchange, keys[0]);
            channel.basicPublish(exchange, keys[1], true, null, utf8("hit"));
            if (keys[2] != null) {
                channel.basicPublish(exchange, keys[2], true, null, utf8("miss"));
                same("return code", returns.poll(TIMEOUT_MS, TimeUnit.MILLISECONDS), 312);
            }
            channel.waitForConfirmsOrDie(TIMEOUT_MS);
            GetResponse got = channel.basicGet(queue, true);
            same("key", got.getEnvelope().getRoutingKey(), keys[1]);
            same("left", got.getMessageCount(), 0);
            channel.queueUnbind(queue, exchange, keys[0]);
            channel.exchangeDelete(exchange);
            channel.queueDelete(queue);
        }
    }

    private static void headerTypes() throws Exception {
        Channel channel = channel();
        String queue = queue(channel, "java-text");
        AMQP.BasicProperties text = new AMQP.BasicProperties.Builder().headers(Map.of("text", "κοινή")).build();
        channel.basicPublish("", queue, text, utf8("x"));
        channel.waitForConfirmsOrDie(TIMEOUT_MS);
        Object got = channel.basicGet(queue, true).getProps().getHeaders().get("text");
        same("long string", ((LongString) got).toString(), "κοινή");
        channel.queueDelete(queue);
    }

    private static void cancelNotify() throws Exception {
        Channel channel = channel();
        String queue = queue(channel, "java-cancel");
        BlockingQueue<String> cancelled = new LinkedBlockingQueue<>();
        String tag = channel.basicConsume(queue, true, (t, delivery) -> {}, cancelled::add);
        channel.queueDelete(queue);
        same("tag", cancelled.poll(TIMEOUT_MS, TimeUnit.MILLISECONDS), tag);
    }

    /** Passes if the request ends the channel with this reply code, and the connection survives. */
    private static void channelClosedWith(int code, Request request) throws Exception {
        Channel channel = channel();
        ShutdownSignalException error = refused(ShutdownSignalException.class, () -> request.send(channel));
        same("code", ((AMQP.Channel.Close) error.getReason()).getReplyCode(), code);
        channel.getConnection().createChannel().close();
    }

    private interface Request {
        void send(Channel channel) throws Exception;
    }

    private static void errorRedeclared() throws Exception {
        String queue = queue(channel(), "java-twice");
        channelClosedWith(406, channel -> channel.queueDeclare(queue, true, false, true, null));
    }

    private static void errorExclusive() throws Exception {
        String queue = channel().queueDeclare().getQueue();
        channelClosedWith(405, channel -> channel.queueDeclarePassive(queue));
    }

    private static void errorArgument() throws Exception {
        channelClosedWith(406, channel ->
                channel.queueDeclare(unique("java-bad"), true, false, false, Map.of("x-message-ttl", "soon")));
    }

    private static void errorNotEmpty() throws Exception {
        Channel channel = channel();
        String queue = queue(channel, "java-full");
        channel.basicPublish("", queue, null, utf8("x"));
        channel.waitForConfirmsOrDie(TIMEOUT_MS);
        channelClosedWith(406, other -> other.queueDelete(queue, false, true));
    }

    private static void errorConnection() throws Exception {
        Channel channel = channel();
        ShutdownSignalException error = refused(ShutdownSignalException.class,
                () -> channel.exchangeDeclare(unique("x"), "no-such-type"));
        same("code", ((AMQP.Connection.Close) error.getReason()).getReplyCode(), 503);
    }

    public static void main(String[] arguments) {
        broker = Checks.address(arguments, "KOINE_AMQP", "127.0.0.1:5672");
        Map<String, Checks.Check> checks = new LinkedHashMap<>();
        checks.put("publish-consume-confirm", AmqpClient::publishAndConsume);
        checks.put("settle", AmqpClient::settle);
        checks.put("prefetch", AmqpClient::prefetch);
        checks.put("exchanges", AmqpClient::exchanges);
        checks.put("header-types", AmqpClient::headerTypes);
        checks.put("cancel-notify", AmqpClient::cancelNotify);
        checks.put("error-missing-queue", () -> channelClosedWith(404, c -> c.queueDeclarePassive(unique("nobody"))));
        checks.put("error-redeclared", AmqpClient::errorRedeclared);
        checks.put("error-exclusive", AmqpClient::errorExclusive);
        checks.put("error-reserved-name", () -> channelClosedWith(403, c -> c.exchangeDeclare("amq.mine", "topic")));
        checks.put("error-argument", AmqpClient::errorArgument);
        checks.put("error-not-empty", AmqpClient::errorNotEmpty);
        checks.put("error-exchange-type", AmqpClient::errorConnection);
        checks.put("error-login", () -> refused(AuthenticationFailureException.class, () -> connect("wrong")));
        Checks.run(checks);
    }
}
