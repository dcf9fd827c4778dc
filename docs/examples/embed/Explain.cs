// Explain a picture with onnxruntime for C# (Microsoft.ML.OnnxRuntime, from NuGet):
//
//     dotnet run -- FOLDER PICTURE.rgb TARGET OUT
//
// The graph is of fixed size (--input-shape), so that the session itself knows all that manifest.json says of its
// inputs, and no JSON needs to be read: the picture comes first, then `target`.
using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;

public static class Explain
{
    public static void Main(string[] arguments)
    {
        string folder = arguments[0], picture = arguments[1], to = arguments[3];
        long[] target = { long.Parse(arguments[2]) }; // the class to explain, -1 for the strongest
        using (var session = new InferenceSession(Path.Combine(folder, "explain.onnx")))
        {
            // By place, as the graph has them: the properties of a session are dictionaries, without an order of their own.
            string image = session.InputNames[0], wanted = session.InputNames[1];
            var pixels = new DenseTensor<byte>(File.ReadAllBytes(picture), session.InputMetadata[image].Dimensions);
            var given = new List<NamedOnnxValue> {
                NamedOnnxValue.CreateFromTensor(image, pixels),
                NamedOnnxValue.CreateFromTensor(wanted, new DenseTensor<long>(target, new[] { 1 })),
            };
            // Four outputs after the model's own: reconstruction, heat, scores, explained.
            var names = session.OutputNames.Skip(session.OutputNames.Count - 4).ToList();
            using (var found = session.Run(given, names))
            {
                Console.WriteLine(found[3].AsEnumerable<long>().First()); // said by the graph itself
                float[] numbers = found[0].AsEnumerable<float>().ToArray();
                var bytes = new byte[numbers.Length * sizeof(float)];
                Buffer.BlockCopy(numbers, 0, bytes, 0, bytes.Length);
                File.WriteAllBytes(Path.Combine(to, "reconstruction.f32"), bytes);
                File.WriteAllBytes(Path.Combine(to, "heat.rgb"), found[1].AsEnumerable<byte>().ToArray());
            }
        }
    }
}
