#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "krul/backend/guarded.hpp"
#include "krul/backend/model_backend.hpp"
#include "krul/backend/owned_kv_rows.hpp"
#include "krul/compress/chunk_source.hpp"
#include "krul/compress/joint_transform.hpp"
#include "krul/compress/profile_belongs.hpp"
#include "krul/compress/token_features.hpp"
#include "krul/conversation/manifest_check.hpp"
#include "krul/conversation/new_manifest.hpp"
#include "krul/core/clock.hpp"
#include "krul/core/workers.hpp"
#include "krul/restore/stored_state.hpp"
#include "krul/similarity/attention_statistics.hpp"
#include "krul/store/compaction.hpp"
#include "krul/store/conversation_key.hpp"
#include "krul/store/manifest_store.hpp"
#include "krul/store/segment.hpp"
#include "krul/store/shared_chunks.hpp"
#include "krul/strategy/save_plan.hpp"

namespace krul {

/// What one save wrote.
struct SaveReport {
  std::uint64_t generation = 0;
  std::size_t rows = 0;      ///< tokens whose K and V are saved now
  std::size_t new_rows = 0;  ///< of those, coded by this save
  std::uint64_t bytes = 0;   ///< written: the new object and both copies of the manifest
  double seconds = 0;
  std::vector<std::size_t> damaged_blocks = {};  ///< that were met on the way and are not mended: save them again

  /// Counts what a second save wrote of what this one found damaged.
  void add_mended(const SaveReport& mended) {
    generation = mended.generation;
    new_rows += mended.new_rows;
    bytes += mended.bytes;
    seconds += mended.seconds;
    damaged_blocks = mended.damaged_blocks;
  }
};

/// Everything one save works on. The caller keeps it alive, and holds the folder's lock.
template <KvSource Cache, ConversationStore S, Clock C = SteadyClock>
struct SaveJob {
  S& store;
  std::string folder;
  const Cache& cache;
  const Geometry& geometry;
  Workers& workers;
  SavePlan plan;
  const ChunkSource* source = nullptr;              ///< for all rows of the cache, if the plan wants one
  const AttentionStatistics* statistics = nullptr;  ///< of the whole conversation, to be kept with it
  const TokenFeatures* features = nullptr;          ///< of what is coded, if the plan's profile asks for them
  std::string texts = {};                           ///< hash of what the tokens mean; empty if that is not known
  std::vector<std::size_t> damaged_blocks = {};     ///< ascending; saved, but not as they were written: saved again
  C clock = {};
};

/// What a plan's profile asks for of the tokens from `first` on.
template <ModelBackend B>
[[nodiscard]] TokenFeatures features_for(B& model, const SavePlan& plan, std::span<const Token> tokens,
                                         std::size_t first = 0) {
  if (!plan.profile || plan.profile->data().features == 0) return {};
  return token_features(model, tokens, first);
}

namespace detail {

/// Codes the cache's rows from a block on, as the plan says.
template <KvSource Cache, ConversationStore S, Clock C>
class BlockEncoder {
 public:
  BlockEncoder(const SaveJob<Cache, S, C>& job, const Manifest& manifest, std::size_t first_block)
      : job_(job),
        block_(manifest.block),
        shape_{manifest.layers, first_block, (job.cache.length() + block_ - 1) / block_ - first_block},
        record_(job.plan.record()) {
    for (const std::size_t block : job.damaged_blocks)
      if (block < first_block) shape_.damaged.push_back(block);
    for (std::size_t layer = 0; layer < shape_.layers; ++layer) {
      unstored_.push_back(unstored_front(manifest, layer, manifest.rows));
      group_of_.push_back({{layer}, &job.plan.coding});
    }
    const auto enter = [&](const Group& group) {
      for (const std::size_t layer : group.layers) group_of_[layer] = group;
    };
    for (const LayerPair& pair : job.plan.pairs) enter({{pair.shallow, pair.deep}, &job.plan.pair_coding});
    if (!job.plan.profile) return;
    const auto& groups = job.plan.profile->data().groups;
    codings_.reserve(2 * groups.size());
    for (std::size_t i = 0; i < groups.size(); ++i) {
      codings_.emplace_back(JointTransform(job.plan.profile, i, job.plan.recent.step(job.plan.step)));
      const AnyChunkCoder& recent = codings_.back();
      codings_.emplace_back(JointTransform(job.plan.profile, i, job.plan.step));
      std::vector<std::size_t> layers(groups[i].layers);
      std::iota(layers.begin(), layers.end(), groups[i].first_layer);
      enter({std::move(layers), &codings_.back(), &recent});
    }
  }
  BlockEncoder(const BlockEncoder&) = delete;
  BlockEncoder& operator=(const BlockEncoder&) = delete;

  SegmentWriter encode(std::uint8_t plan) const {
    SegmentWriter segment(shape_, job_.plan.order);
    const bool by_layer = job_.plan.order == SegmentOrder::by_layer;
    const std::size_t runs = by_layer ? shape_.layers : shape_.count(),
                      length = by_layer ? shape_.count() : shape_.layers;
    for (std::size_t run = 0; run < runs; ++run) {
      const auto layer = [&](std::size_t i) { return by_layer ? run : i; };
      const auto block = [&](std::size_t i) { return by_layer ? i : run; };
      std::vector<std::vector<std::byte>> coded(length);
      job_.workers.parallel_for(length, [&](std::size_t i, std::size_t) {
        if (stores(layer(i), block(i)) && !is_shared(layer(i), block(i))) coded[i] = encode_block(layer(i), block(i));
      });
      for (std::size_t i = 0; i < length; ++i) {
        if (is_shared(layer(i), block(i))) {
          segment.share(group_of_[layer(i)].layers.front());
        } else {
          segment.add(coded[i], coding_id(layer(i), block(i)), plan);
        }
      }
    }
    return segment;
  }

 private:
  [[nodiscard]] TokenRange tokens_of(std::size_t i) const {
    return {shape_.block(i) * block_, std::min((shape_.block(i) + 1) * block_, job_.cache.length())};
  }
  /// A group of a profile is stored for all its layers where one of them wants it: there is no coding for a part of it.
  [[nodiscard]] bool stores(std::size_t layer, std::size_t i) const {
    const std::size_t wanting = job_.plan.profile ? group_of_[layer].layers.back() : layer;
    // A front that was left out stays out, or what lies behind a block of it would seem to be lost.
    if (i < shape_.damaged.size() && tokens_of(i).begin < unstored_[wanting]) return false;
    return job_.plan.left_out.empty() || tokens_of(i).end > job_.plan.left_out[wanting];
  }
  /// Whether the block is one chunk of the layer's whole group.
  [[nodiscard]] bool is_grouped(std::size_t layer, std::size_t i) const {
    const auto& layers = group_of_[layer].layers;
    return std::all_of(layers.begin(), layers.end(), [&](std::size_t each) { return stores(each, i); }) &&
           (layers.size() > 1 || job_.plan.profile);
  }
  /// Whether the chunk is that of a shallower layer.
  [[nodiscard]] bool is_shared(std::size_t layer, std::size_t i) const {
    return group_of_[layer].layers.front() < layer && is_grouped(layer, i);
  }
  [[nodiscard]] bool is_from_source(std::size_t layer) const {
    return !job_.plan.from_source.empty() && job_.plan.from_source[layer];
  }
  [[nodiscard]] std::uint8_t coding_id(std::size_t layer, std::size_t i) const {
    if (is_from_source(layer)) return job_.source->coding();
    return coding_number(is_grouped(layer, i) ? *group_of_[layer].coding : job_.plan.coding, record_);
  }

  [[nodiscard]] std::vector<std::byte> encode_block(std::size_t layer, std::size_t i) const {
    const TokenRange tokens = tokens_of(i);
    if (is_from_source(layer)) return job_.source->encode(layer, tokens);
    if (!is_grouped(layer, i)) {
      const OwnedKvRows own = rows_of(layer, tokens);
      const KvRows group[] = {own.view()};
      return job_.plan.coding.encode(job_.geometry, group);
    }
    std::vector<OwnedKvRows> rows;
    for (const std::size_t each : group_of_[layer].layers) rows.push_back(rows_of(each, tokens));
    const BlockContext context{static_cast<Position>(tokens.begin),
                               job_.features ? job_.features->of(tokens) : std::span<const float>{},
                               job_.plan.classes_of(layer, tokens, job_.cache.length())};
    return coding_of(layer, tokens).encode(job_.geometry, views_of(rows), context);
  }
  [[nodiscard]] const AnyChunkCoder& coding_of(std::size_t layer, TokenRange tokens) const {
    const auto& [layers, coding, recent] = group_of_[layer];
    return recent && job_.plan.recent.include(tokens.end, job_.cache.length()) ? *recent : *coding;
  }

  [[nodiscard]] OwnedKvRows rows_of(std::size_t layer, TokenRange tokens) const {
    return read_finite_kv_rows(job_.cache, job_.geometry, layer, tokens);
  }

  const SaveJob<Cache, S, C>& job_;
  std::size_t block_;
  SegmentShape shape_;
  std::vector<std::size_t> unstored_;  ///< [L] leading tokens that the manifest leaves out
  struct Group {
    std::vector<std::size_t> layers;  ///< ascending
    const AnyChunkCoder* coding = nullptr;
    const AnyChunkCoder* recent = nullptr;  ///< of recent rows, if that is another
  };
  std::vector<AnyChunkCoder> codings_;  ///< of a profile's groups: of recent rows, and of others
  SavePlanRecord record_;               ///< names the coders
  std::vector<Group> group_of_;         ///< [L] the layers that are coded with this one, itself among them
};

/// @return backend if a row is not finite; what the cache's device says if it fails
template <KvSource Cache, ConversationStore S, Clock C>
[[nodiscard]] Result<SegmentWriter> encode_segment(const SaveJob<Cache, S, C>& job, const Manifest& manifest,
                                                   std::size_t first_block, std::uint8_t plan) {
  return guarded([&]() -> Result<SegmentWriter> { return BlockEncoder(job, manifest, first_block).encode(plan); });
}

/// Whether what decodes the rows later will be what codes them now.
template <KvSource Cache, ConversationStore S, Clock C>
[[nodiscard]] Status can_code(const SaveJob<Cache, S, C>& job, const Identity& model) {
  if (!job.plan.profile) return {};
  if (job.plan.profile->data().features > 0 && (job.features == nullptr || !job.features->exist()))
    return fail(ErrorCode::unsupported,
                "the profile predicts rows from embeddings, which this backend's batches do not lend: calibrate one "
                "without features");
  return belongs_to(*job.plan.profile, model);
}

/// Forgets the chunks before each layer's cut that no layer needs any more. A chunk that a deeper layer still needs
/// stays with all its layers: it would be read anyway.
inline void leave_out(Manifest& manifest, const std::vector<std::size_t>& left_out) {
  const SharedChunks shared(manifest, manifest.blocks());
  std::vector<char> kept(manifest.layers);
  for (std::size_t block = 0; block < manifest.blocks(); ++block) {
    const std::size_t end = std::min((block + 1) * manifest.block, manifest.rows);
    for (std::size_t layer = manifest.layers; layer-- > 0;) {
      kept[layer] = end > left_out[layer];
      // The nearest deeper layer that shares the chunk has said already whether it keeps it.
      for (std::size_t deeper = layer + 1; deeper < manifest.layers && !kept[layer]; ++deeper)
        kept[layer] = kept[deeper] && shared.shallower(deeper, block) == static_cast<std::int32_t>(layer);
      ChunkRecord& chunk = manifest.chunks[layer * manifest.blocks() + block];
      if (!kept[layer]) chunk = {};
    }
  }
}

/// Whether the state that a save began with is still in force, or one that holds nothing which `next` has not. Else
/// somebody else has written: a lock file can be removed by hand, and not every file system keeps locks between
/// machines.
/// @post  next's generation is higher than the one in force
template <ConversationStore S>
Status may_replace(S& store, const std::string& folder, const Manifest& before, Manifest& next) {
  const auto in_force = load_manifest(store, folder, ManifestCopies::first_valid, ManifestOfFolder{folder});
  if (in_force) {
    const Manifest& there = in_force->manifest;
    if (there.generation == before.generation && there.tokens == before.tokens) return {};
    next.generation = std::max(next.generation, there.generation + 1);
    if (there.tokens.size() <= next.tokens.size() &&
        std::equal(there.tokens.begin(), there.tokens.end(), next.tokens.begin()))
      return {};
    return fail(ErrorCode::busy,
                "somebody else has saved the conversation since it was opened here (was its lock "
                "removed?), and nothing of that is overwritten: open it again to go on from there");
  }
  switch (in_force.error().code) {
    case ErrorCode::corrupt:  // which this save mends
      return {};
    case ErrorCode::not_found:
      if (before.generation == 0) return {};
      return fail(ErrorCode::busy,
                  "somebody else has erased the conversation since it was opened here (was its lock "
                  "removed?): open it again to begin anew");
    default:
      return propagate(in_force);
  }
}

/// Erases segments that a failed save wrote, but those that are lent: a conversation that begins again as one that was
/// erased gives them the same names. None if that cannot be told.
template <ConversationStore S>
void erase_unlent(S& store, const std::string& folder, const std::vector<std::string>& segments) {
  const auto names = store.list(folder);
  if (!names) return;
  const auto lent = lent_segments(store, folder, *names);
  if (!lent) return;
  for (const std::string& segment : segments)
    if (!std::ranges::binary_search(*lent, segment)) static_cast<void>(store.erase(folder + "/" + segment));
}

/// Erases the objects that only a manifest names which was not published.
/// @param in_force  what is there instead, unless that is `before`
template <ConversationStore S>
void erase_unpublished(S& store, const std::string& folder, const Manifest& next, const Manifest& before,
                       const Manifest& in_force) {
  const auto names = [](const Manifest& manifest, const std::string& object) {
    return std::find(manifest.objects.begin(), manifest.objects.end(), object) != manifest.objects.end();
  };
  std::vector<std::string> unpublished;
  for (const std::string& object : next.objects)
    if (!is_borrowed(object) && !names(before, object) && !names(in_force, object)) unpublished.push_back(object);
  erase_unlent(store, folder, unpublished);
}

/// What is in force after the new manifest could not be published whole, and what to say of it. If it is the old one,
/// the objects that only the new one names are erased: a full medium is no fuller for it.
template <ConversationStore S>
tl::unexpected<Error> after_failed_publish(S& store, const std::string& folder, Manifest& manifest, Manifest next,
                                           Error why) {
  const auto in_force = load_manifest(store, folder, ManifestCopies::first_valid, ManifestOfFolder{folder});
  const bool none = !in_force && in_force.error().code == ErrorCode::not_found;
  if (in_force && in_force->manifest.generation == next.generation) {  // under the lock nobody else writes
    why.message =
        "saved, but the second copy of the manifest is still that of the save before, and nothing old is "
        "erased until a save succeeds: " +
        why.message;
    manifest = std::move(next);
  } else if (none || (in_force && in_force->manifest.generation == manifest.generation)) {
    erase_unpublished(store, folder, next, manifest, manifest);
  } else {
    why.message = "whether this was saved cannot be told before the conversation is opened again: " + why.message;
  }
  return tl::unexpected<Error>(std::move(why));
}

}  // namespace detail

/// The first block that a save of so many rows has to code. Closed blocks that did not change stay as they are, but
/// those that were coded more finely as the newest ones, and are not any more, get their final step.
/// @param unchanged  leading rows that are those of the manifest
[[nodiscard]] inline std::size_t first_block_to_code(const Manifest& saved, const SavePlan& plan, std::size_t rows,
                                                     std::size_t unchanged) {
  const std::size_t closed = std::min({unchanged, saved.rows, rows}) / saved.block;
  std::size_t first = closed;
  if (!plan.profile) return first;
  for (std::size_t block = closed; block-- > 0;) {
    const std::size_t end = (block + 1) * saved.block;
    const ChunkRecord& chunk = saved.chunks[(saved.layers - 1) * saved.blocks() + block];
    const bool was_fine = plan.recent.include(end, saved.rows) && chunk.is_stored() &&
                          saved.plans[chunk.plan].profile == plan.profile->hash();
    if (!was_fine) break;
    if (!plan.recent.include(end, rows)) first = block;
  }
  return first;
}

/// The first token of what a save codes: of the first block that is new, or damaged.
[[nodiscard]] inline std::size_t first_token_to_code(const Manifest& saved, const SavePlan& plan, std::size_t rows,
                                                     std::size_t unchanged, std::span<const std::size_t> damaged) {
  const std::size_t first = first_block_to_code(saved, plan, rows, unchanged);
  return saved.block * (damaged.empty() ? first : std::min(first, damaged.front()));
}

/// Appends to a saved conversation what its cache holds beyond it: one new object, then the manifest.
///
/// Blocks are written again only as first_block_to_code says, or if they are damaged; the open tail block is, until it
/// is full. Whatever housekeeping cannot do is left undone and fails nothing. A save that fails leaves no objects.
/// @param manifest   as saved before, or new with generation 0; what was saved now, if the call succeeds
/// @param tokens     all tokens of the conversation; the cache holds rows for the first of them
/// @param unchanged  leading rows of the cache that are those of the manifest
/// @return           why it is not all done; the message begins with "saved, but" if the new state is in force anyway.
///                   Among else: busy if another state than `manifest` is in force, which stays; identity_mismatch if
///                   the plan's profile is not the model's, unsupported if it asks for features that are not given,
///                   backend if a row is not finite
/// @post             `manifest` is what is in force, unless the message says that this cannot be told
/// @throws           PreconditionError if the cache is empty or longer than the tokens, or the plan is not valid for it
template <KvSource Cache, ConversationStore S, Clock C>
[[nodiscard]] Result<SaveReport> save_conversation(const SaveJob<Cache, S, C>& job, Manifest& manifest,
                                                   std::span<const Token> tokens, std::size_t unchanged) {
  const TimePoint start = job.clock.now();
  const std::size_t rows = job.cache.length();
  expects(rows > 0 && rows <= tokens.size(), "save_conversation: the cache is empty or longer than the tokens");
  expects_valid(job.plan, manifest.layers);
  expects(job.plan.classes.empty() || job.plan.classes.size() == job.plan.profile->data().groups.size() * rows,
          "save_conversation: the plan's classes are of another number of rows");
  expects(job.plan.from_source.empty() || (job.source != nullptr && job.source->rows() == rows),
          "save_conversation: the plan wants a source of chunks, which is not given for all rows");
  expects(job.source == nullptr || job.source->coding() == projected_coding,
          "save_conversation: restores know one coding that is made from no rows, projected_coding");
  if (auto status = detail::can_code(job, manifest.identity); !status) return propagate(status);
  SaveReport report{.generation = manifest.generation, .rows = rows};
  unchanged = std::min(unchanged, manifest.rows);
  const bool same_rows = unchanged == rows && manifest.rows == rows && job.damaged_blocks.empty();
  if (same_rows && std::ranges::equal(tokens, manifest.tokens)) return report;

  Manifest next = manifest;
  next.generation = manifest.generation + 1;
  next.tokens.assign(tokens.begin(), tokens.end());
  next.texts = job.texts;
  next.statistics = job.statistics ? serialize(*job.statistics) : std::vector<std::byte>{};
  next.row_attention = job.plan.row_attention ? serialize(*job.plan.row_attention) : std::vector<std::byte>{};
  next.saved_unix_s = static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count());
  if (!same_rows) {
    const std::uint8_t plan = enter_plan(next, job.plan.record());
    const std::size_t first_block = first_block_to_code(manifest, job.plan, rows, unchanged);
    const auto segment = detail::encode_segment(job, next, first_block, plan);
    if (!segment) return propagate(segment);
    std::string object = segment->name(next.generation);
    if (!segment->bytes().empty())
      if (const auto put = job.store.put(job.folder + "/" + object, segment->bytes()); !put) {
        detail::erase_unlent(job.store, job.folder, {object});
        return propagate(put);
      }
    report.new_rows = rows - first_block * next.block + segment->shape().damaged.size() * next.block;
    report.bytes = segment->bytes().size();
    enter_segment(next, *segment, std::move(object), rows);
    if (!job.plan.left_out.empty()) detail::leave_out(next, job.plan.left_out);
    Compaction compaction = compact_objects(job.store, job.folder, next);
    report.bytes += compaction.bytes;
    report.damaged_blocks = std::move(compaction.damaged_blocks);
  }
  if (auto status = detail::may_replace(job.store, job.folder, manifest, next); !status) {
    const auto there = load_manifest(job.store, job.folder, ManifestCopies::first_valid);
    detail::erase_unpublished(job.store, job.folder, next, manifest, there ? there->manifest : manifest);
    return propagate(status);
  }
  if (const auto published = publish_manifest(job.store, job.folder, next); published) {
    report.bytes += *published;
  } else {
    return detail::after_failed_publish(job.store, job.folder, manifest, std::move(next), published.error());
  }
  manifest = std::move(next);
  report.generation = manifest.generation;
  // All is saved: what cannot be erased now is erased after a later save.
  static_cast<void>(collect_garbage(job.store, job.folder, manifest));
  report.seconds = seconds(job.clock.now() - start);
  return report;
}

/// What a conversation is saved as.
struct SaveAs {
  std::string id;
  SavePlan plan;
  const ChunkSource* source = nullptr;              ///< for all rows, if the plan wants one
  const AttentionStatistics* statistics = nullptr;  ///< to be kept with it
  std::uint32_t block = 64;                         ///< tokens of a stored block
  std::size_t threads = 1;
};

/// Saves a whole cache as a conversation of its own, in place of what was saved under that id.
/// @return busy if another process has the conversation; whatever the store says if what is there cannot be read;
///         otherwise as save_conversation
/// @throws PreconditionError as save_conversation
template <ModelBackend B, ConversationStore S>
[[nodiscard]] Result<SaveReport> save_as(B& model, S& store, const typename B::Cache& cache,
                                         std::span<const Token> tokens, const SaveAs& as) {
  const auto folder = conversation_folder(as.id);
  if (!folder) return propagate(folder);
  const auto lock = store.lock(*folder);
  if (!lock) return propagate(lock);
  auto before = load_manifest(store, *folder);
  if (!before && before.error().code != ErrorCode::not_found && before.error().code != ErrorCode::corrupt)
    return propagate(before);
  Manifest manifest = new_manifest(model, as.id, as.block);
  if (before) {
    manifest.generation = before->manifest.generation;
    manifest.tokens = std::move(before->manifest.tokens);
  }
  Workers workers(as.threads);
  return guarded([&]() -> Result<SaveReport> {
    const TokenFeatures features = features_for(model, as.plan, tokens.first(cache.length()));
    const SaveJob<typename B::Cache, S> job{.store = store,
                                            .folder = *folder,
                                            .cache = cache,
                                            .geometry = model.geometry(),
                                            .workers = workers,
                                            .plan = as.plan,
                                            .source = as.source,
                                            .statistics = as.statistics,
                                            .features = &features};
    return save_conversation(job, manifest, tokens, 0);
  });
}

}  // namespace krul
