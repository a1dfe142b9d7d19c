#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "krul/conversation/saved_conversations.hpp"
#include "krul/core/version.hpp"
#include "krul/store/lending.hpp"
#include "krul/store/manifest_store.hpp"

namespace krul {

/// A conversation that begins as another one did.
struct Fork {
  std::string to;                 ///< its id; nothing may be saved there
  std::size_t tokens = SIZE_MAX;  ///< it begins with so many tokens of the other's, or all
  /// The caller has the right to write the other one, as an open Conversation has, and does not save it meanwhile.
  bool holds_lock = false;
};

/// What a fork begins with.
struct ForkReport {
  std::size_t tokens = 0;
  std::size_t rows = 0;  ///< tokens of them whose K and V are stored: whole blocks, or all that there are
};

/// The manifest of a fork: it borrows all of its segments, but those that lie in its own folder, as where it comes back
/// from a fork of its own.
/// @param folder  of the conversation that is forked
[[nodiscard]] inline Manifest forked_manifest(const Manifest& from, const std::string& folder, const Fork& fork) {
  Manifest manifest = from;
  manifest.conversation = fork.to;
  manifest.generation = 1;
  manifest.writer = krul_version;
  const std::string own = conversation_folder(fork.to).value_or("") + "/";
  for (std::string& object : manifest.objects) {
    object = object_key(folder, object);
    if (object.starts_with(own)) object.erase(0, own.size());
  }
  if (fork.tokens < from.tokens.size()) {
    manifest.tokens.resize(fork.tokens);
    manifest.texts.clear();
  }
  if (fork.tokens >= from.rows) return manifest;
  manifest.rows = fork.tokens / from.block * from.block;
  manifest.statistics.clear();
  manifest.row_attention.clear();
  manifest.chunks.clear();
  for (std::size_t layer = 0; layer < from.layers; ++layer)
    for (std::size_t block = 0; block < manifest.blocks(); ++block) manifest.chunks.push_back(from.chunk(layer, block));
  drop_unused_objects(manifest);
  return manifest;
}

namespace detail {

/// Writes down what a fork borrows. Whoever does has the lenders' locks until the fork's manifest is published.
template <ConversationStore S>
[[nodiscard]] Status put_loans(S& store, const std::string& fork, const std::vector<Borrowed>& borrowed) {
  for (const auto& [lender, segments] : borrowed) {
    const auto content = loan_content(segments);
    if (auto status = store.put(lender + "/" + loan_name(fork, content), content); !status) return status;
  }
  return {};
}

}  // namespace detail

/// Saves a conversation that begins as another one, at once and whatever its size: it borrows what the other has
/// stored, and from then on each goes its own way. What is borrowed stays for as long as a fork names it, also when the
/// other one is saved anew or erased. A prompt that many conversations begin with is stored once so.
/// @param from  id of the conversation that is forked
/// @return not_found if nothing is saved under `from`; busy if somebody else writes it, or one that it borrows from;
///         invalid_argument if something is saved under `to`, or both are one; as load_manifest and
///         conversation_folder, and what the store says if it cannot write
/// @post   on failure nothing is saved under `to` that was not there, unless the store cannot erase it either
template <ConversationStore S>
[[nodiscard]] Result<ForkReport> fork_saved(S& store, std::string_view from, const Fork& fork) {
  const auto folder = conversation_folder(from), to = conversation_folder(fork.to);
  if (!folder) return propagate(folder);
  if (!to) return propagate(to);
  if (*folder == *to) return fail(ErrorCode::invalid_argument, "a fork needs an id of its own; choose another one");
  std::optional<typename S::Lock> own;  // dies after the lenders': a store that writes late writes the manifest last
  std::vector<typename S::Lock> locks;
  const auto lock = [&](const std::string& each) -> Status {
    auto taken = store.lock(each);
    if (!taken) return propagate(taken);
    locks.push_back(std::move(*taken));
    return {};
  };
  if (!fork.holds_lock)
    if (auto status = lock(*folder); !status) return propagate(status);
  auto taken = store.lock(*to);
  if (!taken) return propagate(taken);
  own.emplace(std::move(*taken));
  const auto there = load_saved(store, fork.to);
  if (there || there.error().code == ErrorCode::corrupt || there.error().code == ErrorCode::unsupported_version)
    return fail(ErrorCode::invalid_argument, "a conversation is saved under the fork's id; erase it or choose another");
  if (there.error().code != ErrorCode::not_found) return propagate(there);
  const auto loaded = load_saved(store, from);
  if (!loaded) return propagate(loaded);

  const Manifest manifest = forked_manifest(loaded->manifest, *folder, fork);
  const auto borrowed = borrowed_segments(manifest);
  for (const Borrowed& each : borrowed)
    if (each.folder != *folder)
      if (auto status = lock(each.folder); !status) return propagate(status);
  Status saved = detail::put_loans(store, *to, borrowed);
  if (saved) {
    const auto published = publish_manifest(store, *to, manifest);
    if (!published) saved = propagate(published);
  }
  if (!saved) {
    // A manifest that cannot be erased still needs what it borrows.
    if (erase_conversation(store, *to))
      for (const Borrowed& each : borrowed) end_loans(store, each.folder, *to);
    return propagate(saved);
  }
  return ForkReport{manifest.tokens.size(), manifest.rows};
}

}  // namespace krul
