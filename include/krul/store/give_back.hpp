#pragma once

#include <string>
#include <vector>

#include "krul/store/lending.hpp"
#include "krul/store/manifest_store.hpp"

namespace krul {

/// Gives back all that a folder lent to a fork that was erased. What only that fork needed is erased where the lender
/// is erased, too; else the lender's next save does that. What cannot be done now is left to collect_folder. Call it
/// under the lender's lock, and the fork's.
template <ConversationStore Store>
void give_back(Store& store, const std::string& lender, const std::string& fork) {
  const auto names = store.list(lender);
  if (!names) return;
  bool is_erased = true;
  for (const std::string& name : *names) {
    is_erased = is_erased && !is_manifest_name(name);
    if (fork_of_loan(name) == fork && !store.erase(lender + "/" + name)) return;
  }
  if (is_erased) static_cast<void>(collect_garbage(store, lender, Manifest{}));
}

}  // namespace krul
