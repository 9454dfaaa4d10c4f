/* Runs an exported network through TensorFlow's C API, without Python.
 *
 * usage: saved_model_client FOLDER INPUT LABELS PROBABILITIES CHANNELS BYTES
 *            [BATCH HEIGHT WIDTH]... <images >results
 *
 * INPUT, LABELS and PROBABILITIES are the tensors of the signature "serving_default", such as
 * serving_default_ImageTensor:0. Images are raw pixels of CHANNELS values of BYTES each, 1 (uint8)
 * or 2 (uint16), one batch after the other. Of each batch, results are raw int32 labels, raw
 * float32 probabilities and, as a float64, the milliseconds that it took.
 */
#include <time.h>

#include "c_api.h"

static double milliseconds(void) {
  struct timespec now;
  timespec_get(&now, TIME_UTC);
  return now.tv_sec * 1e3 + now.tv_nsec / 1e6;
}

static TF_Tensor *read_images(const int64_t *shape, int bytes_per_value) {
  size_t bytes = (size_t)(shape[0] * shape[1] * shape[2] * shape[3]) * bytes_per_value;
  TF_DataType type = bytes_per_value == 2 ? TF_UINT16 : TF_UINT8;
  TF_Tensor *images = TF_AllocateTensor(type, shape, 4, bytes);
  if (fread(TF_TensorData(images), 1, bytes, stdin) != bytes) {
    fprintf(stderr, "expected %zu bytes of images\n", bytes);
    exit(1);
  }
  return images;
}

int main(int argc, char **argv) {
  if (argc < 7 || (argc - 7) % 3 != 0) {
    fprintf(stderr, "expected FOLDER INPUT LABELS PROBABILITIES CHANNELS BYTES [BATCH HEIGHT WIDTH]...\n");
    return 2;
  }
  TF_Graph *graph = TF_NewGraph();
  TF_Session *session = load(argv[1], graph);
  TF_Output input = tensor(graph, argv[2]);
  TF_Output outputs[] = {tensor(graph, argv[3]), tensor(graph, argv[4])};

  for (int arg = 7; arg < argc; arg += 3) {
    int64_t shape[] = {atoll(argv[arg]), atoll(argv[arg + 1]), atoll(argv[arg + 2]), atoll(argv[5])};
    TF_Tensor *images = read_images(shape, atoi(argv[6]));
    TF_Tensor *results[2] = {NULL, NULL};
    double start = milliseconds();
    TF_SessionRun(session, NULL, &input, &images, 1, outputs, results, 2, NULL, 0, NULL, status);
    double taken = milliseconds() - start;
    check("run");
    for (int i = 0; i < 2; i++) {
      fwrite(TF_TensorData(results[i]), 1, TF_TensorByteSize(results[i]), stdout);
      TF_DeleteTensor(results[i]);
    }
    fwrite(&taken, sizeof taken, 1, stdout);
    TF_DeleteTensor(images);
  }

  TF_CloseSession(session, status);
  check("close");
  TF_DeleteSession(session, status);
  TF_DeleteGraph(graph);
  TF_DeleteStatus(status);
  return 0;
}
