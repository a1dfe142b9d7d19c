#include "any_conversation.hpp"

namespace krul {

template class Conversation<AnyModel, AnyStore>;

}  // namespace krul
