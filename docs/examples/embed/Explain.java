// Explain a picture with onnxruntime for Java (com.microsoft.onnxruntime:onnxruntime, from Maven):
//
//     java -cp onnxruntime.jar Explain.java FOLDER PICTURE.rgb TARGET OUT
//
// The graph is of fixed size (--input-shape), so that the session itself knows all that manifest.json says of its
// inputs, and no JSON needs to be read: the picture comes first, then `target`.
import ai.onnxruntime.OnnxJavaType;
import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtSession;
import ai.onnxruntime.TensorInfo;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;

public class Explain {
  public static void main(String[] arguments) throws Exception {
    Path folder = Path.of(arguments[0]), picture = Path.of(arguments[1]), out = Path.of(arguments[3]);
    long[] target = {Long.parseLong(arguments[2])}; // the class to explain, -1 for the strongest
    OrtEnvironment environment = OrtEnvironment.getEnvironment();
    try (OrtSession session = environment.createSession(folder.resolve("explain.onnx").toString())) {
      List<String> inputs = List.copyOf(session.getInputNames());
      List<String> outputs = List.copyOf(session.getOutputNames());
      long[] shape = ((TensorInfo) session.getInputInfo().get(inputs.get(0)).getInfo()).getShape();
      // Its own buffer, as the runtime has it: a direct one is not copied.
      byte[] bytes = Files.readAllBytes(picture);
      ByteBuffer pixels = ByteBuffer.allocateDirect(bytes.length).put(bytes).rewind();
      try (OnnxTensor image = OnnxTensor.createTensor(environment, pixels, shape, OnnxJavaType.UINT8);
          OnnxTensor wanted = OnnxTensor.createTensor(environment, target);
          OrtSession.Result found = session.run(Map.of(inputs.get(0), image, inputs.get(1), wanted))) {
        // Four outputs after the model's own: reconstruction, heat, scores, explained.
        int first = outputs.size() - 4;
        System.out.println(((long[]) found.get(first + 3).getValue())[0]); // said by the graph itself
        write(out.resolve("reconstruction.f32"), (OnnxTensor) found.get(first));
        write(out.resolve("heat.rgb"), (OnnxTensor) found.get(first + 1));
      }
    }
  }

  private static void write(Path path, OnnxTensor tensor) throws IOException {
    ByteBuffer numbers = tensor.getByteBuffer().order(ByteOrder.LITTLE_ENDIAN);
    byte[] bytes = new byte[numbers.remaining()];
    numbers.get(bytes);
    Files.write(path, bytes);
  }
}
