import java.io.File;
import java.util.ArrayList;
import java.util.List;
import net.celltrackingchallenge.measures.BCi;
import net.celltrackingchallenge.measures.CCA;
import net.celltrackingchallenge.measures.CT;
import net.celltrackingchallenge.measures.DET;
import net.celltrackingchallenge.measures.SEG;
import net.celltrackingchallenge.measures.TF;
import net.celltrackingchallenge.measures.TRA;
import org.scijava.log.LogLevel;
import org.scijava.log.LogService;
import org.scijava.log.StderrLogService;

/** Asks the challenge's own classes about pairs of folders (truth, result): a line of tab-separated NAME=VALUE for each pair. */
public class Official {
    interface Measure {
        double value() throws Exception;
    }

    public static void main(String[] folders) throws Exception {
        LogService log = new StderrLogService();
        log.setLevel(LogLevel.NONE);
        for (int pair = 0; pair + 1 < folders.length; pair += 2) {
            String truth = folders[pair], result = folders[pair + 1];
            List<String> line = new ArrayList<>();
            TRA tra = new TRA(log);
            tra.doConsistencyCheck = false;
            add(line, "TRA", () -> tra.calculate(truth, result));
            add(line, "DET", () -> new DET(log).calculate(truth, result));
            if (new File(truth, "SEG").isDirectory()) add(line, "SEG", () -> new SEG(log).calculate(truth, result));
            add(line, "CT", () -> new CT(log).calculate(truth, result, tra.getCache()));
            add(line, "TF", () -> new TF(log).calculate(truth, result, tra.getCache()));
            for (int i = 0; i < 4; i++) {
                BCi branching = new BCi(log);
                branching.setI(i);
                add(line, "BC(" + i + ")", () -> branching.calculate(truth, result, tra.getCache()));
            }
            add(line, "CCA", () -> new CCA(log).calculate(truth, result, tra.getCache()));
            System.out.println(String.join("\t", line));
        }
    }

    private static void add(List<String> line, String name, Measure measure) {
        try {
            line.add(name + "=" + measure.value());
        } catch (Exception undefined) {
            System.err.println(name + ": " + undefined.getMessage());
        }
    }
}
