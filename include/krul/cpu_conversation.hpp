#pragma once

#include "krul/conversation/conversation.hpp"
#include "krul/model/load.hpp"
#include "krul/store/any_store.hpp"
#include "krul/store/file_store.hpp"
#include "krul/store/memory_store.hpp"

// Conversations with krul's own model, which krul::model has compiled already: whoever includes this does not compile
// them again.

namespace krul {

extern template class Conversation<CpuModel, MemoryStore>;
extern template class Conversation<CpuModel, FileStore>;
extern template class Conversation<CpuModel, AnyStore>;

}  // namespace krul
