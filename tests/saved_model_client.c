/* Runs an exported network through TensorFlow's C API, without Python.
 *
 * usage: saved_model_client FOLDER INPUT LABELS PROBABILITIES BATCH HEIGHT WIDTH <images >results
 *
 * INPUT, LABELS and PROBABILITIES are the tensors of the signature "serving_default", such as
 * serving_default_ImageTensor:0. Images are raw uint8 RGB; results are raw int32 labels, then
 * raw float32 probabilities.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tensorflow/c/c_api.h>

static TF_Status *status;

static void check(const char *what) {
  if (TF_GetCode(status) != TF_OK) {
    fprintf(stderr, "%s: %s\n", what, TF_Message(status));
    exit(1);
  }
}

/* The tensor of a name "operation:index"; the name is cut at the colon. */
static TF_Output tensor(TF_Graph *graph, char *name) {
  char *colon = strrchr(name, ':');
  if (colon != NULL) *colon = '\0';
  TF_Output found = {TF_GraphOperationByName(graph, name), colon == NULL ? 0 : atoi(colon + 1)};
  if (found.oper == NULL) {
    fprintf(stderr, "no operation %s\n", name);
    exit(1);
  }
  return found;
}

int main(int argc, char **argv) {
  if (argc != 8) {
    fprintf(stderr, "expected FOLDER INPUT LABELS PROBABILITIES BATCH HEIGHT WIDTH\n");
    return 2;
  }
  status = TF_NewStatus();
  TF_Graph *graph = TF_NewGraph();
  TF_SessionOptions *options = TF_NewSessionOptions();
  const char *tags[] = {"serve"};
  TF_Session *session =
      TF_LoadSessionFromSavedModel(options, NULL, argv[1], tags, 1, graph, NULL, status);
  check("load");

  int64_t shape[] = {atoll(argv[5]), atoll(argv[6]), atoll(argv[7]), 3};
  size_t bytes = (size_t)(shape[0] * shape[1] * shape[2] * shape[3]);
  TF_Tensor *images = TF_AllocateTensor(TF_UINT8, shape, 4, bytes);
  if (fread(TF_TensorData(images), 1, bytes, stdin) != bytes) {
    fprintf(stderr, "expected %zu bytes of image\n", bytes);
    return 1;
  }

  TF_Output input = tensor(graph, argv[2]);
  TF_Output outputs[] = {tensor(graph, argv[3]), tensor(graph, argv[4])};
  TF_Tensor *results[2] = {NULL, NULL};
  TF_SessionRun(session, NULL, &input, &images, 1, outputs, results, 2, NULL, 0, NULL, status);
  check("run");
  for (int i = 0; i < 2; i++) {
    fwrite(TF_TensorData(results[i]), 1, TF_TensorByteSize(results[i]), stdout);
    TF_DeleteTensor(results[i]);
  }

  TF_DeleteTensor(images);
  TF_CloseSession(session, status);
  check("close");
  TF_DeleteSession(session, status);
  TF_DeleteSessionOptions(options);
  TF_DeleteGraph(graph);
  TF_DeleteStatus(status);
  return 0;
}
