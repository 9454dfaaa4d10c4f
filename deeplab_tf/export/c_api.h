/* What programs need that run an exported network through TensorFlow's C API. */
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

/* The session of a SavedModel, whose graph is loaded too; status is new. */
static TF_Session *load(const char *folder, TF_Graph *graph) {
  status = TF_NewStatus();
  TF_SessionOptions *options = TF_NewSessionOptions();
  const char *tags[] = {"serve"};
  TF_Session *session =
      TF_LoadSessionFromSavedModel(options, NULL, folder, tags, 1, graph, NULL, status);
  check("load");
  TF_DeleteSessionOptions(options);
  return session;
}
