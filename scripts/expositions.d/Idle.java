/** Something for the JMX exporter to sit in. */
public class Idle {
    public static void main(String[] arguments) throws Exception {
        System.gc();
        Thread.sleep(600_000);
    }
}
