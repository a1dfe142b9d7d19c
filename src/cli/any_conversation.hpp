#pragma once

#include "krul/any_model.hpp"
#include "krul/conversation/conversation.hpp"
#include "krul/store/any_store.hpp"

namespace krul {

// Compiled in a file of its own: the tool is compiled quickly, and what a restore does must be fast.
extern template class Conversation<AnyModel, AnyStore>;

}  // namespace krul
