#include "krul/cpu_conversation.hpp"

namespace krul {

template class Conversation<CpuModel, MemoryStore>;
template class Conversation<CpuModel, FileStore>;
template class Conversation<CpuModel, AnyStore>;

}  // namespace krul
