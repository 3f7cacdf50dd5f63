// One second of speech in, JPEG files out: java Speak HOST:PORT MODEL FILE.wav FOLDER
import com.google.protobuf.ByteString;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.TimeUnit;
import lipsync.v1.InferBatchCompositeRequest;
import lipsync.v1.LipSyncGrpc;
import lipsync.v1.Pcm;

public class Speak {
    public static void main(String[] args) throws Exception {
        ManagedChannel channel = ManagedChannelBuilder.forTarget(args[0]).usePlaintext()
            .maxInboundMessageSize(50 << 20).build();
        byte[] wav = Files.readAllBytes(Path.of(args[2]));
        String head = wav.length < 46 ? "" : new String(wav, 0, 44, StandardCharsets.ISO_8859_1);
        String plain = "\1\0\1\0\u0080\u003e\0\0\0\u007d\0\0\2\0\20\0data";
        if (!head.startsWith("RIFF") || !head.startsWith(plain, 20)) {
            throw new IllegalArgumentException(
                args[2] + ": this example takes 16-bit mono WAV files of 16 kHz with a plain header of 44 bytes");
        }
        ByteString samples = ByteString.copyFrom(wav, 44, Math.min(wav.length - 44, 2 * 16_000));
        var request = InferBatchCompositeRequest.newBuilder().setModelId(args[1])
            .setPcm(Pcm.newBuilder().setSamples(samples).setSampleRateHz(16_000)).build();
        var answer = LipSyncGrpc.newBlockingStub(channel).withDeadlineAfter(60, TimeUnit.SECONDS)
            .inferBatchComposite(request);
        Path folder = Files.createDirectories(Path.of(args[3]));
        for (int n = 0; n < answer.getFramesCount(); n++) {
            Files.write(folder.resolve(n + ".jpg"), answer.getFrames(n).getData().toByteArray());
        }
        System.out.println(answer.getFramesCount() + " frames");
        channel.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
    }
}
