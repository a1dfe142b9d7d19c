#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "krul/restore/presence_check.hpp"
#include "krul/restore/restore.hpp"
#include "krul/restore/token_split.hpp"

namespace krul {

/// Executes a split by tokens: a thread of its own reads blocks from the end backwards while the calling thread runs
/// the front through the model, piece by piece; then the prompt runs over both.
///
/// A block that cannot be read or is not what was written ends the reading there: the tokens before it and itself are
/// recomputed, and what was read behind it stays.
/// @param job  its plan gives history, prompt and block; prefixes are not looked at
/// @post     as restore; the report's plan says what was recomputed in the end
/// @return   as restore
/// @throws   as restore, and PreconditionError if the split's chunk is 0
/// @source   Cake, arXiv:2410.03065, for the two pointers; second-hand
template <ModelBackend B, ConversationStore S, Clock C, AttentionObserver O>
[[nodiscard]] Result<RestoreReport> restore_by_tokens(const RestoreJob<B, S, C, O>& job, const TokenSplit& split) {
  const Geometry& geometry = job.model.geometry();
  const Resource compute = computes_on(job.model);
  const std::size_t history = job.plan.history, block = job.plan.block, blocks = (history + block - 1) / block;
  expects(split.chunk > 0, "restore_by_tokens: at least one token at a time");
  expects(job.tokens.size() == history + job.plan.prompt && job.tokens.size() <= job.cache.capacity() &&
              job.cache.length() == 0,
          "restore_by_tokens: needs an empty cache that is large enough, and all tokens");
  if (auto status = can_decode(job.model, job.manifest, job.codings); !status) return propagate(status);
  const TimePoint start = job.clock.now();
  RestoreReport report;
  report.asked = job.tokens.size();
  report.matched = history;
  report.plan = job.plan;
  const auto since_start = [&] { return seconds(job.clock.now() - start); };

  RestorePlan all_loaded = job.plan;
  all_loaded.prefix.assign(geometry.layers, 0);
  ChunkDecoder<B> decoder(job.model, job.manifest, all_loaded, job.codings, job.decode);
  PresenceCheck presence(job.store, job.manifest, job.folder, history, job.codings);
  std::optional<LinkLane<S, C>> link;
  std::size_t lowest = 0;  // the first block that is read: unstored fronts and lost blocks bound it
  const auto begin_reading = [&] {
    const auto& lost = presence.lost().all;
    lowest = lost.empty() ? 0 : lost.back() + 1;
    for (std::size_t layer = 0; layer < geometry.layers; ++layer)
      lowest = std::max(lowest, (unstored_front(job.manifest, layer, history) + block - 1) / block);
    if (split.front) lowest = std::max(lowest, (std::min(*split.front, history) + block - 1) / block);
    link.emplace(job.store, job.clock, job.manifest, job.folder,
                 read_requests_backwards(job.manifest, lowest, blocks, lost), job.control);
  };
  double link_s = 0;
  const auto end_reading = [&] {
    link->stop();
    report.bytes += link->bytes();
    link_s += link->busy_s();
    for (const auto& [begin, end] : link->spans())
      report.timeline.add({Resource::link, "read", std::nullopt, seconds(begin - start), seconds(end - start)});
  };
  begin_reading();
  auto batch = job.model.make_batch();
  std::size_t front = 0, back = blocks;  // tokens computed; first block that is there
  double waited_s = 0;
  const auto tell_progress = [&] {
    const std::size_t open = std::min(back * block, history) - std::min(front, back * block);
    if (job.control.progress)
      job.control.progress(static_cast<double>(history - open) / static_cast<double>(job.tokens.size()));
  };
  const auto take = [&] {
    if (presence.hears_of_more()) {
      end_reading();
      begin_reading();
      return link->more();
    }
    const double asked_s = since_start();
    Arrival arrival = link->next();
    double ready_s = since_start();
    waited_s += ready_s - asked_s;
    const std::size_t arrived = arrival.request.chunks.front().block;
    const bool is_last_of_block = !link->more() || link->next_block() != arrived;
    std::vector<BrokenRows> broken;
    decoder.decode(std::span(&arrival, 1), job.cache, job.workers, broken, [&](Resource resource, const char* name) {
      if (compute == Resource::cores) return;
      const double begin_s = std::exchange(ready_s, since_start());
      report.timeline.add({resource, name, std::nullopt, begin_s, ready_s});
    });
    link->recycle(std::move(arrival.buffer));
    if (!broken.empty()) {
      report.reasons.push_back("block " + std::to_string(arrived) + ": recomputed with all before it, because it " +
                               (!arrival.status ? "could not be read: " + arrival.status.error().message
                                : broken.front().cause == BrokenRows::Cause::damaged
                                    ? "is damaged"
                                    : "is whole, but its bytes are no rows of this model"));
      // What was stored of the blocks before it was not looked at, and what was computed is there to be saved.
      if (arrival.status || means_damage(arrival.status.error().code))
        for (std::size_t each = 0; each <= arrived; ++each) report.damaged_blocks.push_back(each);
      report.repaired_rows += std::min((arrived + 1) * block, history) * geometry.layers;
      return false;
    }
    if (is_last_of_block) back = arrived;
    tell_progress();
    return true;
  };

  bool reading = link->more();
  const auto loaded_from = [&] { return std::min(back * block, history); };
  // Without a given front reading and computing race: what has arrived is taken between pieces, and the next piece ends
  // where the loaded part begins. With one, the front goes first and then everything is waited for.
  const auto is_stopped = [&] { return job.control.limits.stop.stop_requested(); };
  while (front < loaded_from() && !is_stopped()) {
    while (reading && !is_stopped() && link->more() && link->ready()) reading = take();
    const std::size_t limit = split.front && reading ? std::min(lowest * block, history) : loaded_from();
    if (front < limit) {
      const std::size_t next = std::min(split.chunk, limit - front);
      const double begin_s = since_start();
      forward(job.model, job.cache, batch, job.tokens.subspan(front, next), {});
      report.timeline.add({compute, "front", std::nullopt, begin_s, since_start()});
      front += next;
      tell_progress();
    } else if (reading && link->more()) {
      reading = take();
    } else {
      reading = false;
    }
  }
  end_reading();
  if (is_stopped()) {
    job.cache.truncate(0);
    return given_up();
  }
  job.cache.commit(history);
  const double begin_s = since_start();
  try {
    forward(job.model, job.cache, batch, job.tokens.subspan(history), job.logits, job.observer);
  } catch (const NotFiniteError&) {  // the loaded rows may be why
    job.cache.truncate(0);
    prefill(job.model, job.cache, batch, job.tokens, job.logits);
    report.recomputed_all = true;
    report.repaired_rows = history * geometry.layers;
    front = history;
    report.reasons.push_back("the loaded rows lead to logits that are not finite: the whole history was recomputed");
  }
  report.timeline.add({compute, "prompt", std::nullopt, begin_s, since_start()});
  if (job.control.progress) job.control.progress(1);

  report.first_token_s = since_start();
  report.busy = detail::busy_times(compute, report, link_s, waited_s);
  static_cast<void>(presence.hears_of_more());  // where nothing was to be read
  const auto& gone = presence.lost().gone;
  if (report.damaged_blocks.empty()) report.damaged_blocks = gone;
  if (!gone.empty()) report.reasons.push_back(describe_gone(gone, job.plan));
  report.plan.prefix.assign(geometry.layers, std::min(front, history));
  report.recomputed_rows = front * geometry.layers - report.repaired_rows;
  report.loaded_rows = (history - front) * geometry.layers;
  return report;
}

}  // namespace krul
