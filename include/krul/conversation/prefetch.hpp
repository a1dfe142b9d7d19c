#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "krul/conversation/saved_conversations.hpp"
#include "krul/store/bring_near.hpp"
#include "krul/store/object_sizes.hpp"
#include "krul/store/ranged_reads.hpp"

namespace krul {

/// What a prefetch read.
struct PrefetchReport {
  std::size_t objects = 0;  ///< but for the manifest
  std::uint64_t bytes = 0;
};

/// Brings all that is saved of a conversation that will soon be restored near, what it borrows as a fork among it: into
/// a tiered store's near tier, by folders; from any other store it is read once, so that a file store has it in the
/// system's memory. Checks and changes nothing.
/// @return as load_saved; deadline or cancelled once the limits are reached; the store's error if it cannot be read.
///         What was read until then is where it should be
/// @complexity  one read of everything; holds at most 16 MiB, or one object that a tiered store copies
template <ConversationStore S, Clock C = SteadyClock>
[[nodiscard]] Result<PrefetchReport> prefetch_saved(S& store, std::string_view id, const RequestLimits& limits = {},
                                                    const C& clock = {}) {
  constexpr std::uint64_t piece = 4 << 20;
  constexpr std::size_t at_once = 4;
  const auto loaded = load_saved(store, id);
  if (!loaded) return propagate(loaded);
  const std::string folder = conversation_folder(id).value();
  std::vector<std::string> folders{folder};
  for (const Borrowed& borrowed : borrowed_segments(loaded->manifest)) folders.push_back(borrowed.folder);
  std::uint64_t copied = 0;
  for (const std::string& each : folders) {
    if (auto status = limits.check(clock.now()); !status) return propagate(status);
    const auto brought = bring_near(store, each);
    if (!brought) return propagate(brought);
    copied += *brought;
  }
  if (copied > 0) return PrefetchReport{loaded->manifest.objects.size(), copied};
  const auto keys = object_keys(folder, loaded->manifest);
  const auto sizes = object_sizes(store, keys);

  PrefetchReport report;
  std::vector<std::vector<std::byte>> rooms(at_once);
  std::vector<RangedRead> reads;
  Status failed;
  const auto read = [&] {
    get_together(
        store, reads, limits,
        [&](std::size_t i, const Status& status) {
          if (status) report.bytes += reads[i].to.size();
          if (!status && failed) failed = status;
        },
        clock);
    reads.clear();
    return failed.has_value();
  };
  for (std::size_t object = 0; object < keys.size(); ++object) {
    if (!sizes[object]) return propagate(sizes[object]);
    for (std::uint64_t offset = 0; offset < *sizes[object]; offset += piece) {
      auto& room = rooms[reads.size()];
      room.resize(static_cast<std::size_t>(std::min(piece, *sizes[object] - offset)));
      reads.push_back({keys[object], offset, room});
      if (reads.size() == at_once && !read()) return propagate(failed);
    }
    ++report.objects;
  }
  if (!read()) return propagate(failed);
  return report;
}

}  // namespace krul
