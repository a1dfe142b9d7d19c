#include "krul/cpu_conversation.hpp"

namespace krul {

template class Conversation<CpuModel, MemoryStore>;
template class Conversation<CpuModel, FileStore>;

}  // namespace krul
