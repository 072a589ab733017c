package checks;

import java.util.Arrays;
import java.util.Map;
import java.util.Objects;
import java.util.function.BooleanSupplier;

/** What the Java example clients share: where the broker is, fresh names, and one line per check. */
public final class Checks {
    /** The longest that one wait inside a check may take, in milliseconds. */
    public static final int TIMEOUT_MS = 20_000;

    private Checks() {}

    /** A named piece of work that throws when it fails. */
    public interface Check {
        void run() throws Exception;
    }

    /** HOST:PORT from the first argument, else from the environment variable, else the usual local port. */
    public static String address(String[] arguments, String variable, String usual) {
        if (arguments.length > 0) {
            return arguments[0];
        }
        return System.getenv().getOrDefault(variable, usual);
    }

    /** A name that no other run uses. */
    public static String unique(String prefix) {
        return prefix + "-" + Long.toHexString(System.currentTimeMillis()) + Long.toHexString(System.nanoTime());
    }

    /** Fails with both sides unless they are equal; arrays are compared by content. */
    public static void same(String what, Object got, Object want) {
        if (!Objects.deepEquals(got, want)) {
            throw new IllegalStateException(what + ": got " + brief(got) + ", want " + brief(want));
        }
    }

    private static String brief(Object value) {
        String text = value instanceof byte[] bytes ? Arrays.toString(bytes) : String.valueOf(value);
        return text.length() <= 300 ? text : text.substring(0, 300) + "...";
    }

    /** Calls {@code condition}, which should block a little, until it holds. */
    public static void until(String what, BooleanSupplier condition) {
        long deadline = System.currentTimeMillis() + TIMEOUT_MS;
        while (!condition.getAsBoolean()) {
            if (System.currentTimeMillis() > deadline) {
                throw new IllegalStateException(what + ": not within " + TIMEOUT_MS + " ms");
            }
        }
    }

    /** Passes if the call fails with this type, directly or as a cause; returns that error. */
    public static <T extends Throwable> T refused(Class<T> wanted, Check call) throws Exception {
        try {
            call.run();
        } catch (Exception error) {
            for (Throwable cause = error; cause != null; cause = cause.getCause()) {
                if (wanted.isInstance(cause)) {
                    return wanted.cast(cause);
                }
            }
            throw error;
        }
        throw new IllegalStateException("accepted, want " + wanted.getSimpleName());
    }

    /** Runs the checks in order, prints {@code ok NAME} or {@code FAIL NAME: why}, and ends the program with 0 or 1. */
    public static void run(Map<String, Check> checks) {
        int failed = 0;
        for (Map.Entry<String, Check> check : checks.entrySet()) {
            try {
                check.getValue().run();
                System.out.println("ok " + check.getKey());
            } catch (Throwable error) {
                failed += 1;
                System.out.println("FAIL " + check.getKey() + ": " + String.valueOf(error).replace('\n', ' '));
                if (System.getenv("CLIENT_TRACE") != null) {
                    error.printStackTrace(System.out);
                }
            }
        }
        System.out.flush();
        Runtime.getRuntime().halt(failed == 0 ? 0 : 1);
    }
}
