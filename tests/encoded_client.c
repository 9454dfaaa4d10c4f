/* Sends one file to the signature "encoded" of an exported network, through TensorFlow's C API.
 *
 * usage: encoded_client FOLDER INPUT MASK ERROR <image.jpg >mask.png
 *
 * INPUT, MASK and ERROR are the tensors of the signature, such as encoded_image_bytes:0. What is
 * wrong with the file is written to stderr; nothing, if the mask is good.
 */
#include "c_api.h"

enum { MOST_BYTES = 1 << 26 };

/* Writes the only string of a tensor. */
static void write_string(FILE *file, const TF_Tensor *strings) {
  const TF_TString *string = (const TF_TString *)TF_TensorData(strings);
  fwrite(TF_StringGetDataPointer(string), 1, TF_StringGetSize(string), file);
}

int main(int argc, char **argv) {
  if (argc != 5) {
    fprintf(stderr, "expected FOLDER INPUT MASK ERROR\n");
    return 2;
  }
  char *bytes = malloc(MOST_BYTES);
  size_t length = fread(bytes, 1, MOST_BYTES, stdin);

  TF_Graph *graph = TF_NewGraph();
  TF_Session *session = load(argv[1], graph);

  int64_t one = 1;
  TF_Tensor *files = TF_AllocateTensor(TF_STRING, &one, 1, sizeof(TF_TString));
  TF_TString *file = (TF_TString *)TF_TensorData(files);
  TF_StringInit(file);
  TF_StringCopy(file, bytes, length);

  TF_Output input = tensor(graph, argv[2]);
  TF_Output outputs[] = {tensor(graph, argv[3]), tensor(graph, argv[4])};
  TF_Tensor *results[2] = {NULL, NULL};
  TF_SessionRun(session, NULL, &input, &files, 1, outputs, results, 2, NULL, 0, NULL, status);
  check("run");
  write_string(stdout, results[0]);
  fprintf(stderr, "error: ");
  write_string(stderr, results[1]);
  fprintf(stderr, "\n");

  TF_CloseSession(session, status);
  check("close");
  return 0;
}
