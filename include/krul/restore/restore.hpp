#pragma once

#include <algorithm>
#include <cstddef>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "krul/backend/computes_on.hpp"
#include "krul/backend/forward.hpp"
#include "krul/backend/model_backend.hpp"
#include "krul/core/clock.hpp"
#include "krul/core/half.hpp"
#include "krul/core/workers.hpp"
#include "krul/restore/chunk_decoder.hpp"
#include "krul/restore/link_lane.hpp"
#include "krul/restore/presence_check.hpp"
#include "krul/restore/restore_report.hpp"
#include "krul/restore/stored_state.hpp"

namespace krul {

/// Everything one restore works on. The caller keeps all of it alive.
template <ModelBackend B, ConversationStore S, Clock C = SteadyClock, AttentionObserver O = NullObserver>
struct RestoreJob {
  B& model;
  S& store;
  typename B::Cache& cache;       ///< detached and empty; committed only if the restore succeeds
  Workers& workers;               ///< decodes
  const Manifest& manifest;       ///< what is stored
  std::string folder;             ///< where
  RestorePlan plan;               ///< what to do
  std::span<const Token> tokens;  ///< [N + M] history, then prompt
  std::span<float> logits;  ///< [rows, vocabulary], next-token logits of the last rows of the prompt; 1 <= rows <= M
  RestoreControl control = {};         ///< while it runs
  CodingSet codings = {};              ///< what rows were coded by; rows of what is not among them are recomputed
  Resource decode = Resource::device;  ///< cores: what the model could decode itself is decoded here all the same
  C clock = {};
  O observer = {};  ///< sees the rows of the pass: the recomputed fronts and the prompt
};

/// Executes a plan: a thread of its own reads in plan order, while the calling thread and the model recompute the
/// front, decode what arrived, and run the prompt in the same pass, layer by layer. The report's timeline says which
/// resource did what.
///
/// What the store does not have, or nothing at hand decodes, is recomputed in every layer. A distant store is asked for
/// that while the first rows are on their way; what was begun is begun again if something is gone.
///
/// A chunk that cannot be read or is not what was written is repaired on the spot: its rows are run through the layers
/// below, over the rows that are there, and no good row is overwritten. When repairs would cost more than a full
/// recompute, the whole history is recomputed instead. Either way the report says so.
/// @post     on success the cache holds and has committed N + M tokens; on failure it holds nothing
/// @return   identity_mismatch if the manifest or the profile is another model's; cancelled if the caller stopped it
/// @throws   PreconditionError if the plan, the tokens, the manifest and the logits do not fit together; NotFiniteError
///           if the logits are not even finite once everything was recomputed
/// @source   Krul, arXiv:2507.08045, section 6.2; second-hand; the repair is ours
template <ModelBackend B, ConversationStore S, Clock C, AttentionObserver O>
[[nodiscard]] Result<RestoreReport> restore(const RestoreJob<B, S, C, O>& job);

/// The sentence for a report on blocks that are gone.
[[nodiscard]] inline std::string describe_gone(const std::vector<std::size_t>& blocks, const RestorePlan& plan) {
  std::size_t tokens = 0;
  for (const std::size_t block : blocks)
    tokens += std::min((block + 1) * plan.block, plan.history) - block * plan.block;
  return std::to_string(tokens) + " tokens are not stored whole, as an object is gone or too short: recomputed";
}

namespace detail {

/// How long each resource worked. One thread sees to all but the reads, one step at a time: what is neither waiting for
/// them nor a step of another resource is computing.
/// @param compute  what the model computes on
/// @param report   with its timeline, and first_token_s
[[nodiscard]] inline ResourceTimes busy_times(Resource compute, const RestoreReport& report, double link_s,
                                              double waited_s) {
  ResourceTimes busy;
  busy[Resource::link] = link_s;
  busy[compute] = report.first_token_s - waited_s;
  if (compute == Resource::device)
    for (const Resource resource : {Resource::cores, Resource::copy})
      busy[Resource::device] -= busy[resource] = report.timeline.busy_s(resource);
  return busy;
}

template <ModelBackend B, ConversationStore S, Clock C, AttentionObserver O>
class Restoration {
 public:
  explicit Restoration(const RestoreJob<B, S, C, O>& job)
      : job_(job),
        compute_(computes_on(job.model)),
        plan_(job.plan),
        geometry_(job.model.geometry()),
        decoder_(job.model, job.manifest, plan_, job.codings, job.decode),
        broken_(geometry_.layers),
        start_(job.clock.now()),
        presence_(job.store, job.manifest, job.folder, plan_.history, job.codings) {
    const std::size_t rows = job.logits.size() / geometry_.vocabulary;
    expects(plan_.prefix.size() == geometry_.layers && job.tokens.size() == plan_.history + plan_.prompt,
            "restore: the plan is for another model or conversation");
    expects(rows >= 1 && rows <= plan_.prompt && rows * geometry_.vocabulary == job.logits.size(),
            "restore: logits for 1 to M rows of the prompt");
    expects(plan_.history <= job.manifest.rows && plan_.block == job.manifest.block,
            "restore: the plan does not fit the manifest");
    for (std::size_t layer = 0; layer < geometry_.layers; ++layer)
      expects(plan_.prefix[layer] >= unstored_front(job.manifest, layer, plan_.history),
              "restore: the plan loads rows that are not stored");
    expects(job.tokens.size() <= job.cache.capacity() && job.cache.length() == 0,
            "restore: needs an empty cache that is large enough");
    report_.asked = job.tokens.size();
    report_.matched = plan_.history;
    report_.plan = plan_;
  }

  [[nodiscard]] Result<RestoreReport> run() {
    begin_reading();
    const bool passed = pass();
    end_reading();
    if (!passed && job_.control.limits.stop.stop_requested()) {
      job_.cache.truncate(0);
      return given_up();
    }
    if (passed) {
      job_.cache.commit(job_.tokens.size());
    } else {
      recompute_all();
    }
    finish_report();
    return std::move(report_);
  }

 private:
  void begin_reading() {
    link_.emplace(job_.store, job_.clock, job_.manifest, job_.folder,
                  read_requests(plan_, job_.manifest, presence_.lost().all), job_.control);
  }

  void end_reading() {
    link_->stop();
    report_.bytes += link_->bytes();
    link_s_ += link_->busy_s();
    for (std::size_t i = 0; i < link_->spans().size(); ++i)
      note(Resource::link, "read", link_->requests()[i].chunks.front().layer, link_->spans()[i].first,
           link_->spans()[i].second);
  }

  /// Hears what the store says of what it has, and begins to read anew if something is gone.
  bool begun_in_vain() {
    const TimePoint asked = job_.clock.now();
    const bool in_vain = presence_.hears_of_more();
    waited_s_ += seconds(job_.clock.now() - asked);
    if (!in_vain) return false;
    end_reading();
    begin_reading();
    return true;
  }

  static void append(std::vector<Position>& rows, TokenRange range) {
    for (std::size_t t = range.begin; t < range.end; ++t) rows.push_back(static_cast<Position>(t));
  }

  /// The rows of the batch in layer l: the recomputed front, the lost blocks behind it, the prompt.
  std::vector<Position> positions(std::size_t front) const {
    std::vector<Position> rows;
    append(rows, {0, front});
    for (const std::size_t block : presence_.lost().all) {
      TokenRange range = decoder_.tokens_of(block);
      range.begin = std::max(range.begin, front);
      append(rows, range);
    }
    append(rows, {plan_.history, job_.tokens.size()});
    return rows;
  }

  std::vector<Token> tokens_at(std::span<const Position> rows) const {
    std::vector<Token> tokens(rows.size());
    std::transform(rows.begin(), rows.end(), tokens.begin(), [&](Position position) { return job_.tokens[position]; });
    return tokens;
  }

  /// Keeps the rows of `batch` whose positions the next step needs.
  static void keep_rows(typename B::Batch& batch, std::span<const Position> wanted) {
    std::vector<RowRange> ranges;
    const auto present = batch.positions();
    for (std::size_t row = 0, next = 0; row < present.size() && next < wanted.size(); ++row) {
      if (present[row] != wanted[next]) continue;
      ++next;
      if (!ranges.empty() && ranges.back().end == row) {
        ++ranges.back().end;
      } else {
        ranges.push_back({row, row + 1});
      }
    }
    batch.keep(ranges);
  }

  /// @return false if repairs would cost more than recomputing everything, the logits are not finite, or the caller
  ///         gave up; the cache is half filled then
  bool pass() {
    const std::size_t last = geometry_.layers - 1, rows = job_.logits.size() / geometry_.vocabulary;
    auto batch = job_.model.make_batch();
    const auto first_rows = positions(plan_.prefix[0]);
    batch.assign(first_rows);
    job_.model.embed(tokens_at(first_rows), batch);
    note(compute_, "embed", std::nullopt, start_, job_.clock.now());
    // The last layer's attention is needed for the logits only, unless someone wants to see it.
    const std::size_t unseen = std::same_as<O, NullObserver> ? job_.tokens.size() - rows : plan_.history;
    std::vector<Position> final_rows;
    append(final_rows, {unseen, job_.tokens.size()});

    for (std::size_t layer = 0; layer <= last; ++layer) {
      const TimePoint begin = job_.clock.now();
      job_.model.project(layer, batch, job_.cache, KvWrite::all);
      keep_rows(batch, layer == last ? final_rows : positions(plan_.carried(layer)));
      note(compute_, "project", layer, begin, job_.clock.now());
      if (layer == 0 && begun_in_vain()) return pass();
      load_layer(*link_, layer);
      if (job_.control.limits.stop.stop_requested()) return false;
      if (!broken_[layer].empty() && !repair(layer, broken_[layer])) return false;
      const TimePoint loaded = job_.clock.now();
      job_.model.attend(layer, batch, job_.cache, job_.observer);
      const TimePoint attended = job_.clock.now();
      job_.model.finish(layer, batch);
      note(compute_, "attend", layer, loaded, attended);
      note(compute_, "finish", layer, attended, job_.clock.now());
      if (job_.control.progress) job_.control.progress(static_cast<double>(layer + 1) / static_cast<double>(last + 1));
    }
    const TimePoint begin = job_.clock.now();
    job_.model.logits(batch, RowRange{final_rows.size() - rows, final_rows.size()}, job_.logits);
    note(compute_, "logits", std::nullopt, begin, job_.clock.now());
    if (are_finite(job_.logits)) return true;
    report_.reasons.push_back("the loaded rows lead to logits that are not finite");
    return false;
  }

  /// Takes what arrives of one layer and decodes it: everything that is there at a time together.
  void load_layer(LinkLane<S, C>& link, std::size_t layer) {
    std::vector<BrokenRows> broken;
    while (link.next_layer() == layer) {
      const TimePoint asked = job_.clock.now();
      std::vector<Arrival> arrivals;
      arrivals.push_back(link.next());
      const TimePoint ready = job_.clock.now();
      waited_s_ += seconds(ready - asked);
      while (link.next_layer() == layer && link.ready()) arrivals.push_back(link.next());
      TimePoint begin = ready;
      decoder_.decode(arrivals, job_.cache, job_.workers, broken, [&](Resource resource, const char* name) {
        if (compute_ == Resource::cores) return;  // they do all of it: one event, below
        const TimePoint from = std::exchange(begin, job_.clock.now());
        note(resource, name, layer, from, begin);
      });
      for (Arrival& arrival : arrivals) {
        if (!arrival.status) {
          report_.reasons.push_back("layer " + std::to_string(layer) + ", " + describe_blocks(arrival.request) +
                                    ": recomputed, because it could not be read: " + arrival.status.error().message);
          if (means_damage(arrival.status.error().code))
            for (const ChunkPlace& place : arrival.request.chunks) damaged_.insert(place.block);
        }
        link.recycle(std::move(arrival.buffer));
      }
      if (compute_ == Resource::cores) note(Resource::cores, "decode", layer, ready, job_.clock.now());
    }
    for (const BrokenRows& rows : broken) broken_[rows.layer].insert(rows.block);
    tell_broken(broken);
  }

  [[nodiscard]] static std::string describe_blocks(const ReadRequest& request) {
    const std::size_t first = request.chunks.front().block, last = request.chunks.back().block;
    return first == last ? "block " + std::to_string(first)
                         : "blocks " + std::to_string(first) + " to " + std::to_string(last);
  }

  /// A sentence for each chunk, whatever the number of its layers; what could not be read has one already.
  void tell_broken(const std::vector<BrokenRows>& broken) {
    std::map<std::pair<std::size_t, BrokenRows::Cause>, std::string> layers;
    for (const BrokenRows& rows : broken) {
      if (rows.cause == BrokenRows::Cause::unread) continue;
      damaged_.insert(rows.block);
      std::string& text = layers[{rows.block, rows.cause}];
      text += (text.empty() ? "layer " : " and ") + std::to_string(rows.layer);
    }
    for (const auto& [chunk, text] : layers)
      report_.reasons.push_back(text + ", block " + std::to_string(chunk.first) +
                                (chunk.second == BrokenRows::Cause::damaged
                                     ? ": damaged, recomputed"
                                     : ": whole, but its bytes are no rows of this model, recomputed"));
  }

  /// Recomputes the rows of broken blocks in one layer from the tokens, through the layers below.
  /// @return false, and nothing is done, if that would cost more than recomputing everything
  bool repair(std::size_t layer, const std::set<std::size_t>& broken) {
    std::vector<Position> rows;
    for (const std::size_t block : broken) append(rows, decoder_.tokens_of(block));
    repair_work_ += rows.size() * (layer + 1);
    if (repair_work_ > plan_.history * geometry_.layers) return false;
    auto batch = job_.model.make_batch();
    batch.assign(rows);
    job_.model.embed(tokens_at(rows), batch);
    for (std::size_t below = 0; below < layer; ++below) {
      job_.model.project(below, batch, job_.cache, KvWrite::none);
      job_.model.attend(below, batch, job_.cache, NullObserver{});
      job_.model.finish(below, batch);
    }
    job_.model.project(layer, batch, job_.cache, KvWrite::missing);
    report_.repaired_rows += rows.size();
    return true;
  }

  void recompute_all() {
    job_.cache.truncate(0);
    report_.recomputed_all = true;
    report_.reasons.push_back("so much could not be used that the whole history was recomputed");
    auto batch = job_.model.make_batch();
    prefill(job_.model, job_.cache, batch, job_.tokens, job_.logits);
    if (job_.control.progress) job_.control.progress(1);
  }

  void note(Resource resource, std::string name, std::optional<std::size_t> layer, TimePoint begin, TimePoint end) {
    report_.timeline.add({resource, std::move(name), layer, seconds(begin - start_), seconds(end - start_)});
  }

  void finish_report() {
    report_.first_token_s = seconds(job_.clock.now() - start_);
    report_.busy = busy_times(compute_, report_, link_s_, waited_s_);
    for (const std::size_t block : presence_.lost().gone) damaged_.insert(block);
    if (report_.recomputed_all && !damaged_.empty())
      for (std::size_t block = 0; block * plan_.block < plan_.history; ++block) damaged_.insert(block);
    report_.damaged_blocks.assign(damaged_.begin(), damaged_.end());
    if (!presence_.lost().gone.empty()) report_.reasons.push_back(describe_gone(presence_.lost().gone, plan_));
    if (report_.recomputed_all) {
      report_.repaired_rows = plan_.history * geometry_.layers;
      return;
    }
    const std::size_t repaired_in_place = report_.repaired_rows;
    for (std::size_t layer = 0; layer < geometry_.layers; ++layer) {
      const std::size_t computed = positions(plan_.prefix[layer]).size() - plan_.prompt;
      report_.recomputed_rows += plan_.prefix[layer];
      report_.repaired_rows += computed - plan_.prefix[layer];
      report_.loaded_rows += plan_.history - computed;
    }
    report_.loaded_rows -= repaired_in_place;
  }

  const RestoreJob<B, S, C, O>& job_;
  Resource compute_;
  RestorePlan plan_;
  const Geometry& geometry_;
  ChunkDecoder<B> decoder_;
  std::vector<std::set<std::size_t>> broken_;  ///< [L] blocks that this layer has to compute after all
  TimePoint start_;
  PresenceCheck presence_;
  std::optional<LinkLane<S, C>> link_;
  double link_s_ = 0, waited_s_ = 0;
  std::size_t repair_work_ = 0;
  std::set<std::size_t> damaged_;  ///< blocks of which something stored is not what was written
  RestoreReport report_;
};

}  // namespace detail

template <ModelBackend B, ConversationStore S, Clock C, AttentionObserver O>
[[nodiscard]] Result<RestoreReport> restore(const RestoreJob<B, S, C, O>& job) {
  if (auto status = can_decode(job.model, job.manifest, job.codings); !status) return propagate(status);
  try {
    return detail::Restoration<B, S, C, O>(job).run();
  } catch (const NotFiniteError&) {
    job.cache.truncate(0);
    throw;
  }
}

}  // namespace krul
