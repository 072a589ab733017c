package secure;

import static checks.Checks.TIMEOUT_MS;
import static checks.Checks.refused;
import static checks.Checks.same;
import static checks.Checks.unique;
import static checks.Checks.until;

import com.rabbitmq.client.AuthenticationFailureException;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.DefaultSaslConfig;
import com.rabbitmq.client.Delivery;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.KeyStore;
import java.security.PrivateKey;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.spec.PKCS8EncodedKeySpec;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import javax.net.ssl.KeyManager;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.errors.SaslAuthenticationException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Logs in with kafka-clients or amqp-client, over TLS if told so, and says what became of it.
 *
 * <p>{@code java secure.Secure LIBRARY MODE HOST:PORT [key=value ...]}. LIBRARY is kafka-clients or amqp-client. MODE:
 * <ul>
 * <li>login: writes a message and reads it back
 * <li>refused: expects the library's own error for a login that failed
 * <li>revoked: works until the user has lost its rights: says {@code ready} at first and {@code lost} at the end
 * </ul>
 * Keys: user, password, mechanism (PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, EXTERNAL), ca, cert, key (PKCS#8, PEM).
 */
public final class Secure {
    private static final byte[] BODY = "body".getBytes(StandardCharsets.UTF_8);
    /** A write that takes longer counts as refused: the client tries again in vain. */
    private static final long WRITE_LIMIT_MS = 500;
    private static final String NAME = unique("secure");
    private static final Map<String, String> OPTIONS = new HashMap<>();
    private static String mode;
    private static String address;

    private Secure() {}

    private static String text(String key) throws Exception {
        return Files.readString(Path.of(OPTIONS.get(key)));
    }

    private static String mechanism() {
        return OPTIONS.getOrDefault("mechanism", "PLAIN");
    }

    private static Properties kafkaSettings() throws Exception {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", address);
        boolean hasSasl = !mechanism().equals("EXTERNAL");
        String transport = OPTIONS.containsKey("ca") ? "SSL" : "PLAINTEXT";
        settings.put("security.protocol", (hasSasl ? "SASL_" : "") + transport);
        if (hasSasl) {
            String module = mechanism().equals("PLAIN") ? "plain.PlainLoginModule" : "scram.ScramLoginModule";
            settings.put("sasl.mechanism", mechanism());
            settings.put("sasl.jaas.config", String.format(
                    "org.apache.kafka.common.security.%s required username=\"%s\" password=\"%s\";",
                    module, OPTIONS.get("user"), OPTIONS.get("password")));
        }
        if (OPTIONS.containsKey("ca")) {
            settings.put("ssl.truststore.type", "PEM");
            settings.put("ssl.truststore.certificates", text("ca"));
        }
        if (OPTIONS.containsKey("cert")) {
            settings.put("ssl.keystore.type", "PEM");
            settings.put("ssl.keystore.certificate.chain", text("cert"));
            settings.put("ssl.keystore.key", text("key"));
        }
        return settings;
    }

    private static void kafka() throws Exception {
        if (mode.equals("refused")) {
            try (Admin admin = Admin.create(kafkaSettings())) {
                refused(SaslAuthenticationException.class, () -> admin.describeCluster().nodes().get());
            }
            return;
        }
        KafkaProducer<byte[], byte[]> producer =
                new KafkaProducer<>(kafkaSettings(), new ByteArraySerializer(), new ByteArraySerializer());
        ProducerRecord<byte[], byte[]> record = new ProducerRecord<>(NAME, BODY);
        producer.send(record).get(TIMEOUT_MS, TimeUnit.MILLISECONDS);
        if (mode.equals("revoked")) {
            System.out.println("ready");
            try {
                while (true) {
                    producer.send(record).get(WRITE_LIMIT_MS, TimeUnit.MILLISECONDS);
                }
            } catch (ExecutionException | TimeoutException error) {
                System.err.println(error);
            }
            System.out.println("lost");
            return;
        }
        Properties settings = kafkaSettings();
        settings.put("group.id", NAME);
        settings.put("auto.offset.reset", "earliest");
        List<byte[]> read = new ArrayList<>();
        try (KafkaConsumer<byte[], byte[]> consumer =
                new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of(NAME));
            until("a record", () -> {
                consumer.poll(Duration.ofMillis(100)).forEach(got -> read.add(got.value()));
                return !read.isEmpty();
            });
        }
        same("records", read.toArray(), new Object[] {BODY});
    }

    private static Certificate certificate(String key) throws Exception {
        try (InputStream file = Files.newInputStream(Path.of(OPTIONS.get(key)))) {
            return CertificateFactory.getInstance("X.509").generateCertificate(file);
        }
    }

    private static PrivateKey privateKey() throws Exception {
        String inner = text("key").replaceAll("-----[A-Z ]+-----", "");
        byte[] pkcs8 = Base64.getMimeDecoder().decode(inner);
        return KeyFactory.getInstance("EC").generatePrivate(new PKCS8EncodedKeySpec(pkcs8));
    }

    private static KeyStore emptyStore() throws Exception {
        KeyStore store = KeyStore.getInstance("PKCS12");
        store.load(null, null);
        return store;
    }

    private static SSLContext context() throws Exception {
        KeyStore trusted = emptyStore();
        trusted.setCertificateEntry("ca", certificate("ca"));
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(trusted);
        KeyManager[] keys = null;
        if (OPTIONS.containsKey("cert")) {
            char[] unused = new char[0];
            KeyStore own = emptyStore();
            own.setKeyEntry("own", privateKey(), unused, new Certificate[] {certificate("cert")});
            KeyManagerFactory factory = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
            factory.init(own, unused);
            keys = factory.getKeyManagers();
        }
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(keys, trust.getTrustManagers(), null);
        return context;
    }

    private static ConnectionFactory amqpFactory() throws Exception {
        ConnectionFactory factory = new ConnectionFactory();
        int colon = address.lastIndexOf(':');
        factory.setHost(address.substring(0, colon));
        factory.setPort(Integer.parseInt(address.substring(colon + 1)));
        factory.setAutomaticRecoveryEnabled(false);
        if (mechanism().equals("EXTERNAL")) {
            factory.setSaslConfig(DefaultSaslConfig.EXTERNAL);
        } else {
            factory.setSaslConfig(DefaultSaslConfig.PLAIN);
            factory.setUsername(OPTIONS.get("user"));
            factory.setPassword(OPTIONS.get("password"));
        }
        if (OPTIONS.containsKey("ca")) {
            factory.useSslProtocol(context());
            factory.enableHostnameVerification();
        }
        return factory;
    }

    private static void amqp() throws Exception {
        ConnectionFactory factory = amqpFactory();
        if (mode.equals("refused")) {
            refused(AuthenticationFailureException.class, factory::newConnection);
            return;
        }
        Connection connection = factory.newConnection();
        CountDownLatch ended = new CountDownLatch(1);
        connection.addShutdownListener(why -> ended.countDown());
        Channel channel = connection.createChannel();
        channel.confirmSelect();
        channel.queueDeclare(NAME, true, false, false, null);
        channel.basicPublish("", NAME, null, BODY);
        channel.waitForConfirmsOrDie(TIMEOUT_MS);
        BlockingQueue<Delivery> deliveries = new LinkedBlockingQueue<>();
        channel.basicConsume(NAME, true, (tag, delivery) -> deliveries.add(delivery), tag -> {});
        Delivery got = deliveries.poll(TIMEOUT_MS, TimeUnit.MILLISECONDS);
        same("delivery", got == null ? null : got.getBody(), BODY);
        if (mode.equals("revoked")) {
            System.out.println("ready");
            same("ended", ended.await(TIMEOUT_MS, TimeUnit.MILLISECONDS), true);
            System.out.println("lost");
            return;
        }
        connection.close();
    }

    public static void main(String[] arguments) {
        String library = arguments[0];
        mode = arguments[1];
        address = arguments[2];
        for (int i = 3; i < arguments.length; i++) {
            String[] pair = arguments[i].split("=", 2);
            OPTIONS.put(pair[0], pair[1]);
        }
        int code = 0;
        try {
            switch (library) {
                case "kafka-clients" -> kafka();
                case "amqp-client" -> amqp();
                default -> throw new IllegalArgumentException(library);
            }
            System.out.println("ok " + library + " " + mode);
        } catch (Throwable error) {
            error.printStackTrace();
            code = 1;
        }
        System.out.flush();
        Runtime.getRuntime().halt(code);
    }
}
