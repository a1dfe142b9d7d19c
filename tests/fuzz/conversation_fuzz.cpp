// Folders of saved conversations that somebody changed: bytes flipped, cut off, replaced, copied or gone, in the
// manifest's copies and in the segments, with or without checksums that fit. They are verified, opened, restored and
// saved again. Whatever is restored is what was saved, or computed anew.
#include <map>
#include <memory>

#include "../examples/02_your_own_backend/toy_backend.hpp"
#include "fuzz_target.hpp"
#include "krul/backend/forward.hpp"
#include "krul/conversation/conversation.hpp"
#include "krul/conversation/saved_conversations.hpp"
#include "krul/conversation/verify.hpp"
#include "krul/store/memory_store.hpp"
#include "krul/strategy/catalogue/hcache.hpp"
#include "sealed.hpp"
#include "support/profile_samples.hpp"

namespace krul::fuzz {
namespace {

constexpr const char* talk_id = "a talk";
constexpr std::size_t first_turn = 6, saved_tokens = 11, asked_tokens = 13;

using Talk = Conversation<toy::Backend, MemoryStore>;

/// Four layers, so small that a whole restore takes less than a millisecond.
toy::Backend& small_model() {
  static toy::Backend model(Geometry{.layers = 4,
                                     .query_heads = 2,
                                     .kv_heads = 1,
                                     .head_dim = 4,
                                     .hidden = 8,
                                     .vocabulary = 16,
                                     .context = 64,
                                     .cache_type = ElementType::f16,
                                     .rotary = {.pairs = RotaryPairs::halves, .dimensions = 4, .base = 10000}});
  return model;
}

std::span<const Token> talk_tokens(std::size_t count) {
  static const std::vector<Token> tokens = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9};
  return std::span(tokens).first(count);
}

/// All rows of a cache, then the last logits.
Bytes state_of(Talk& talk, std::span<const float> logits) {
  const Geometry& geometry = small_model().geometry();
  Bytes state;
  for (std::size_t layer = 0; layer < geometry.layers; ++layer) {
    const KvRows rows = std::as_const(talk.cache()).view(layer);
    for (const auto& tensor : {rows.keys, rows.values}) {
      const auto used = tensor.first(asked_tokens * geometry.kv_row_bytes());
      require(are_finite(geometry.cache_type, used), "a row that was restored is not finite");
      state.insert(state.end(), used.begin(), used.end());
    }
  }
  const auto numbers = std::as_bytes(logits);
  state.insert(state.end(), numbers.begin(), numbers.end());
  return state;
}

/// What came of a turn.
struct Turn {
  Result<RestoreReport> report;
  Bytes state = {};  ///< if it succeeded
};

Turn advance(Talk& talk) {
  std::vector<float> logits(small_model().geometry().vocabulary);
  Turn turn{talk.advance(talk_tokens(asked_tokens), logits)};
  if (accepted(turn.report)) turn.state = state_of(talk, logits);
  return turn;
}

/// A conversation as one strategy saved it in two turns, and what a restore of it brings back.
struct SavedTalk {
  ConversationOptions options;
  std::map<std::string, Bytes> objects;  ///< by name
  std::string folder = conversation_folder(talk_id).value();
  bool is_lossless = false;  ///< rows are those of a run that was never interrupted
  std::size_t planned = 0;   ///< rows that are recomputed by plan
  Bytes state;

  [[nodiscard]] Result<Talk> open(MemoryStore& store) const {
    return Talk::open(small_model(), store, talk_id, options);
  }
  [[nodiscard]] MemoryStore store_of(const std::map<std::string, Bytes>& held) const {
    MemoryStore store(std::uint64_t{1} << 20);
    for (const auto& [name, bytes] : held) require(store.put(folder + "/" + name, bytes).has_value(), "no put");
    return store;
  }
};

/// Two turns, each opened anew.
void save_turns(const SavedTalk& saved, MemoryStore& store) {
  std::vector<float> logits(small_model().geometry().vocabulary);
  for (const std::size_t count : {first_turn, saved_tokens}) {
    auto talk = saved.open(store).value();
    (void)talk.advance(talk_tokens(count), logits).value();
    (void)talk.save().value();
  }
}

/// All layers as what they project, which no turn can save.
void save_hidden_states(MemoryStore& store) {
  toy::Backend& model = small_model();
  auto cache = model.make_cache(saved_tokens);
  auto batch = model.make_batch();
  HiddenStates hidden(model.geometry());
  forward_keeping_hidden(model, cache, batch, talk_tokens(saved_tokens), hidden);
  const SaveAs as{.id = talk_id,
                  .plan = strategy::Hcache().plan({.geometry = model.geometry()}).value(),
                  .source = &hidden,
                  .block = 4};
  (void)save_as(model, store, cache, talk_tokens(saved_tokens), as).value();
}

SavedTalk save_talk(const AnyStrategy& strategy, bool as_hidden_states) {
  SavedTalk saved;
  saved.options.strategy = strategy;
  saved.options.block = 4;
  MemoryStore store;
  if (as_hidden_states)
    save_hidden_states(store);
  else
    save_turns(saved, store);
  const auto names = store.list(saved.folder).value();
  for (const std::string& name : names) {
    Bytes bytes(store.size(saved.folder + "/" + name).value());
    require(store.get(saved.folder + "/" + name, 0, bytes).has_value(), "no get");
    saved.objects[name] = std::move(bytes);
  }
  auto talk = saved.open(store).value();
  const Turn intact = advance(talk);
  saved.state = intact.state;
  saved.planned = intact.report->recomputed_rows;
  MemoryStore empty;
  auto uninterrupted = saved.open(empty).value();
  saved.is_lossless = advance(uninterrupted).state == saved.state;
  return saved;
}

const std::vector<SavedTalk>& saved_talks() {
  static const std::vector<SavedTalk> talks = [] {
    ProfileData data = testing::random_profile(small_model().geometry(), {1, 3}, 3, 8, 5);
    data.model = small_model().identity().weights;
    const auto list = strategy::catalogue(Profile::create(std::move(data), small_model().geometry()).value());
    std::vector<SavedTalk> all;
    // In an order that never changes: inputs name a talk by its place.
    for (const char* name : {"load-exact", "load-f16", "load-int8", "load-int4", "minicache", "krul-paper", "reuse",
                             "krul-lossless", "krul-codec", "krul", "cake", "recompute"})
      all.push_back(save_talk(strategy::named(list, name).value(), false));
    all.push_back(save_talk(strategy::named(list, "load-f16").value(), true));
    require(all[0].is_lossless && all[1].is_lossless, "exact rows are not exact");
    return all;
  }();
  return talks;
}

/// Changes one object as the input says.
void change_object(std::map<std::string, Bytes>& objects, Input& input) {
  const auto any_object = [&] {
    auto at = objects.begin();
    std::advance(at, input.byte() % objects.size());
    return at;
  };
  if (objects.empty()) return;
  const std::size_t kind = input.byte() % 8;
  const auto object = any_object();
  Bytes& bytes = object->second;
  const std::size_t at = bytes.empty() ? 0 : input.two_bytes() % bytes.size();
  const auto overwrite = [&](std::span<const std::byte> with) {
    const auto part = with.first(std::min(with.size(), bytes.size() - at));
    std::copy(part.begin(), part.end(), bytes.begin() + static_cast<std::ptrdiff_t>(at));
  };
  switch (kind) {
    case 0:
      if (!bytes.empty()) bytes[at] ^= static_cast<std::byte>(input.byte());
      break;
    case 1:
      bytes.resize(at);
      break;
    case 2:
      overwrite(Bytes(4, std::byte{0xff}));
      break;
    case 3:
      overwrite(input.take(input.byte()));
      break;
    case 4: {  // a piece of another object, or of another place
      const Bytes other = any_object()->second;
      const std::size_t from = std::min(input.two_bytes(), other.size()), count = input.byte();
      overwrite(std::span(other).subspan(from, std::min(count, other.size() - from)));
      break;
    }
    case 5: {
      const auto more = input.take(input.byte());
      bytes.insert(bytes.end(), more.begin(), more.end());
      break;
    }
    case 6:
      bytes = Bytes(any_object()->second);
      break;
    default:
      objects.erase(object);
  }
}

void restore_changed(const SavedTalk& saved, const std::map<std::string, Bytes>& objects, bool forged) {
  MemoryStore store = saved.store_of(objects);
  accepted(verify_conversation(store, saved.folder));
  accepted(load_saved(store, talk_id));
  const bool has_whole_manifest = std::ranges::any_of(manifest_names, [&](std::string_view name) {
    const auto found = objects.find(std::string(name));
    return found != objects.end() && found->second == saved.objects.at(found->first);
  });
  bool reads_all = false;  // a strategy may plan to compute some rows, or compute them before they are read
  {
    auto talk = saved.open(store);
    if (!accepted(talk)) return require(forged || !has_whole_manifest, "a whole copy of the manifest was not taken");
    const Turn turn = advance(*talk);
    if (!turn.report) return require(forged, "a damaged conversation cannot go on");
    const RestoreReport& report = *turn.report;
    // What a forged manifest says of a profile that is not at hand is computed, not read, and may be damaged as well.
    const std::size_t rows_of_damaged =
        report.damaged_blocks.size() * report.plan.block * small_model().geometry().layers;
    reads_all = report.recomputed_rows == 0 && (!forged || report.repaired_rows <= rows_of_damaged);
    const bool as_saved = report.repaired_rows == 0 && report.matched == saved_tokens &&
                          report.recomputed_rows == saved.planned && !report.recomputed_all;
    require(forged || turn.state == saved.state || !(saved.is_lossless || as_saved),
            "what was restored is neither saved nor recomputed");
    if (!accepted(talk->save())) return require(forged, "a repaired conversation cannot be saved");
  }
  // What was damaged and read is healed once: it is as it should be the next time.
  const auto found = verify_conversation(store, saved.folder);
  require(found && (found->problems.empty() || !reads_all), "damage is not healed");
  auto again = saved.open(store);
  require(accepted(again), "what was saved cannot be opened");
  const Turn turn = advance(*again);
  require(turn.report && (forged || !reads_all || turn.report->repaired_rows == 0), "what was healed is damaged");
  require(forged || !saved.is_lossless || turn.state == saved.state, "what was healed is wrong");
}

void read_conversation(std::span<const std::byte> bytes) {
  Input input(bytes);
  const SavedTalk& saved = saved_talks()[input.byte() % saved_talks().size()];
  const bool forged = input.byte() % 2 == 1;
  auto objects = saved.objects;
  for (int changes = 0; changes < 16 && !input.is_empty(); ++changes) change_object(objects, input);
  if (forged)
    for (const std::string_view name : manifest_names)
      if (const auto found = objects.find(std::string(name)); found != objects.end()) seal_manifest(found->second);
  restore_changed(saved, objects, forged);
}

std::vector<Bytes> conversation_seeds() {
  std::vector<Bytes> seeds;
  for (unsigned talk = 0; talk < saved_talks().size(); ++talk) {
    seeds.push_back(joined({talk, 0}, ""));
    seeds.push_back(joined({talk, 0, 0, 2, 9, 0, 1, 1, 0, 40, 0}, ""));      // a segment's bit, a copy cut off
    seeds.push_back(joined({talk, 1, 0, 0, 200, 0, 1, 6, 1, 0, 0, 0}, ""));  // a forged manifest, twice
    seeds.push_back(joined({talk, 0, 7, 2, 0, 0, 7, 1, 0, 0}, ""));          // a segment and a copy gone
  }
  return seeds;
}

}  // namespace

std::size_t saved_talk_count() {
  return saved_talks().size();
}

std::vector<Bytes> changes_of_talk(std::size_t talk, std::size_t stride) {
  std::vector<Bytes> changes;
  const auto add = [&](unsigned kind, unsigned object, std::size_t at, std::string_view value) {
    changes.push_back(joined({static_cast<unsigned>(talk), 0, kind, object, static_cast<unsigned>(at & 0xff),
                              static_cast<unsigned>(at >> 8)},
                             value));
  };
  unsigned object = 0;
  for (const auto& [name, bytes] : saved_talks().at(talk).objects) {
    for (std::size_t bit = 0; bit < 8 * bytes.size(); bit += stride) {
      const char mask = static_cast<char>(1U << bit % 8);
      add(0, object, bit / 8, {&mask, 1});
    }
    for (std::size_t at = 0; at < bytes.size(); at += stride) add(1, object, at, {});
    add(7, object, 0, {});
    ++object;
  }
  return changes;
}

Target conversation_target() {
  return {"conversation", read_conversation, conversation_seeds};
}

}  // namespace krul::fuzz
