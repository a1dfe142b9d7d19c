// The few-line interface says what a model lacks.
#include "krul/backend/archetypes.hpp"
#include "krul/conversation/conversation.hpp"
#include "krul/store/memory_store.hpp"

struct HalfABackend : krul::ModelBackendArchetype {
  void finish(std::size_t, Batch&) = delete;
};

void open(HalfABackend& model, krul::MemoryStore& store) {
  static_cast<void>(krul::open_conversation(model, store, "garden"));
}
