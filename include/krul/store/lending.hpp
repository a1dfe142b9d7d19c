#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "krul/core/checksum.hpp"
#include "krul/store/manifest.hpp"
#include "krul/store/whole_object.hpp"

namespace krul {

// Segments that a conversation lends to its forks. A loan is an object of the lender's folder that names the segments;
// while it is there they are not erased, whatever becomes of the lender. It is put before the fork's manifest and
// erased after that, so that what is left after an interruption is a loan too many.

/// "fork-<the fork's folder>-<8 hexadecimal digits of the content's checksum>": never another content.
[[nodiscard]] inline std::string loan_name(std::string_view fork, std::span<const std::byte> content) {
  return "fork-" + std::string(fork) + "-" + hexadecimal(checksum(content)).substr(0, 8);
}

/// The fork's folder of what loan_name gives; empty for other names.
[[nodiscard]] constexpr std::string_view fork_of_loan(std::string_view name) noexcept {
  constexpr std::string_view prefix = "fork-";
  constexpr std::size_t folder = 32, dash = prefix.size() + folder, all = dash + 9;
  const bool is_loan = name.starts_with(prefix) && name.size() == all && name[dash] == '-' &&
                       is_store_folder(name.substr(prefix.size(), folder)) &&
                       name.substr(dash + 1).find_first_not_of("0123456789abcdef") == std::string_view::npos;
  return is_loan ? name.substr(prefix.size(), folder) : std::string_view();
}

/// A loan's content: names of segments, a line each.
[[nodiscard]] inline std::vector<std::byte> loan_content(std::span<const std::string> segments) {
  std::string text;
  for (const std::string& segment : segments) text += segment + "\n";
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

/// The folders of the forks that loans are to, sorted, each once.
/// @param names  all objects of the lender's folder
[[nodiscard]] inline std::vector<std::string> borrowers(std::span<const std::string> names) {
  std::vector<std::string> forks;
  for (const std::string& name : names)
    if (const auto fork = fork_of_loan(name); !fork.empty()) forks.emplace_back(fork);
  std::ranges::sort(forks);
  forks.erase(std::unique(forks.begin(), forks.end()), forks.end());
  return forks;
}

/// What a folder lends to one fork.
struct Loan {
  std::string fork;                   ///< its folder
  std::vector<std::string> segments;  ///< names, in no order
};

/// What a folder lends.
/// @param names  all objects of the folder
/// @return corrupt if a loan is not what was written; what the store says if one cannot be read. Nothing of the folder
///         may be erased then
/// @complexity   one round trip for each loan
template <ConversationStore Store>
[[nodiscard]] Result<std::vector<Loan>> read_loans(Store& store, const std::string& folder,
                                                   std::span<const std::string> names) {
  constexpr std::uint64_t most_bytes = 8 << 20;
  std::vector<Loan> loans;
  for (const std::string& name : names) {
    const std::string_view fork = fork_of_loan(name);
    if (fork.empty()) continue;
    const auto content = load_object(store, folder + "/" + name, most_bytes);
    if (!content && content.error().code == ErrorCode::not_found) continue;  // it ended meanwhile
    if (!content) return propagate(content);
    if (loan_name(fork, *content) != name)
      return fail(ErrorCode::corrupt, "loan " + name + " in conversation folder " + folder +
                                          " is damaged, and nothing there is erased; restore it from a backup, or "
                                          "erase it by hand once no fork needs it");
    Loan& loan = loans.emplace_back(Loan{std::string(fork), {}});
    std::string line;
    for (const std::byte byte : *content) {
      if (byte != std::byte{'\n'}) {
        line += static_cast<char>(byte);
      } else {
        loan.segments.push_back(std::move(line));
        line.clear();
      }
    }
  }
  return loans;
}

/// The segments that are lent, sorted.
/// @return as read_loans
template <ConversationStore Store>
[[nodiscard]] Result<std::vector<std::string>> lent_segments(Store& store, const std::string& folder,
                                                             std::span<const std::string> names) {
  auto loans = read_loans(store, folder, names);
  if (!loans) return propagate(loans);
  std::vector<std::string> lent;
  for (Loan& loan : *loans) std::ranges::move(loan.segments, std::back_inserter(lent));
  std::ranges::sort(lent);
  return lent;
}

/// The folders that a manifest borrows from, sorted, each with the names of the segments there.
struct Borrowed {
  std::string folder;
  std::vector<std::string> segments;
};
[[nodiscard]] inline std::vector<Borrowed> borrowed_segments(const Manifest& manifest) {
  std::vector<std::string> keys;
  std::ranges::copy_if(manifest.objects, std::back_inserter(keys), is_borrowed);
  std::sort(keys.begin(), keys.end());
  std::vector<Borrowed> found;
  for (const std::string& key : keys) {
    const std::size_t slash = key.find('/');
    if (found.empty() || found.back().folder != key.substr(0, slash)) found.push_back({key.substr(0, slash), {}});
    found.back().segments.push_back(key.substr(slash + 1));
  }
  return found;
}

}  // namespace krul
