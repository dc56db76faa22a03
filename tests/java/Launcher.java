import org.scijava.SciJava;
import org.scijava.script.AdaptedScriptLanguage;

/**
 * Fiji's {@code --headless --run script.py 'a=1,b="x"'} with SciJava's own service and Jython, and nothing else of Fiji:
 * scijava-common does not take up Jython by itself, Fiji's adapter for it is not on Maven Central.
 */
public class Launcher {
    public static void main(final String... args) {
        final SciJava scijava = new SciJava();
        scijava.script().getIndex().add(new AdaptedScriptLanguage("jython"), true);
        scijava.script().addAlias(ij.ImagePlus.class);
        scijava.launch(args);
    }
}
