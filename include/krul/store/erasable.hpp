#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "krul/core/error.hpp"
#include "krul/store/conversation_store.hpp"
#include "krul/store/folder_sizes.hpp"
#include "krul/store/lending.hpp"
#include "krul/store/manifest_store.hpp"

namespace krul {

/// Conversations that are to be erased together, and what that frees: what one lends to forks counts once all of these
/// forks are among them.
class Erasable {
 public:
  /// Looks at one more.
  /// @return as FolderSizes::of and read_loans, or why an object cannot be read now; then it is none of them
  template <ConversationStore S>
  [[nodiscard]] Status add(S& store, const std::string& folder) {
    auto sizes = FolderSizes::of(store, folder);
    if (!sizes) return propagate(sizes);
    if (!sizes->counted()) return sizes->counted();
    std::vector<std::string> names;
    for (const auto& [object, bytes] : sizes->objects()) names.push_back(object);
    auto loans = read_loans(store, folder, names);
    if (!loans) return propagate(loans);
    all_.insert_or_assign(folder, Contents{std::move(*sizes), std::move(*loans)});
    for (auto& [lender, contents] : all_)
      if (lender == folder || std::ranges::find(contents.loans, folder, &Loan::fork) != contents.loans.end())
        contents.freed = freed(contents);
    return {};
  }

  /// Bytes that erasing one of them frees, all others erased, too.
  [[nodiscard]] std::uint64_t bytes(const std::string& folder) const { return all_.at(folder).freed; }
  /// Bytes that erasing all frees.
  [[nodiscard]] std::uint64_t bytes() const noexcept {
    std::uint64_t sum = 0;
    for (const auto& [folder, contents] : all_) sum += contents.freed;
    return sum;
  }

 private:
  struct Contents {
    FolderSizes sizes;
    std::vector<Loan> loans;
    std::uint64_t freed = 0;
  };

  [[nodiscard]] std::uint64_t freed(const Contents& contents) const {
    const auto stays = [&](const std::string& segment) {
      return std::ranges::any_of(contents.loans, [&](const Loan& loan) {
        return !all_.contains(loan.fork) && std::ranges::find(loan.segments, segment) != loan.segments.end();
      });
    };
    std::uint64_t sum = 0;
    for (const auto& [object, bytes] : contents.sizes.objects())
      if (is_manifest_name(object) || (is_segment_name(object) && !stays(object))) sum += bytes;
    return sum;
  }

  std::map<std::string, Contents> all_;
};

}  // namespace krul
