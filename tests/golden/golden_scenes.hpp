#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "golden_conversation.hpp"
#include "krul/compress/direct_reuse.hpp"
#include "krul/compress/exact_codec.hpp"
#include "krul/compress/float_codec.hpp"
#include "krul/compress/int4_codec.hpp"
#include "krul/compress/packed.hpp"
#include "krul/compress/slerp_merge.hpp"
#include "krul/conversation/fork.hpp"
#include "krul/conversation/give_up_damaged.hpp"
#include "krul/model/tokenizer.hpp"
#include "krul/similarity/row_attention.hpp"
#include "krul/store/memory_store.hpp"
#include "krul/strategy/row_classes.hpp"
#include "support/foreign_parts.hpp"
#include "support/tiny_model.hpp"

namespace krul::test {

/// Values near a bell curve; those rounded to quarters, so that their bytes can be packed; or none but zeros.
enum class GoldenValues : std::uint8_t { drawn, quarters, zeros };

/// What one save of a scene stores.
struct GoldenTurn {
  std::size_t rows;
  SavePlan plan;
  std::size_t pending = 0;   ///< tokens beyond the rows
  bool seen = false;         ///< whether statistics and what the tokens mean are kept
  std::uint32_t block = 16;  ///< of a new conversation
  bool first_row = false;    ///< whether row 0 is the one that the profile has
  GoldenValues values = GoldenValues::drawn;
  ElementType type = ElementType::f16;
};

/// What the golden folder of 1.4 holds beside strategies: conversations of several saves, plans and codings, what was
/// seen of attention, forks, and what an interruption or a loss leaves. All of it is drawn, nothing is measured: the
/// same bytes come about on every machine and under every version's tuning.
class GoldenScenes {
 public:
  static constexpr std::size_t rows = 80;

  /// @param profile_bytes  of the toy model
  GoldenScenes(std::span<const std::byte> profile_bytes, MemoryStore& store) : store_(store) {
    profile_ = Profile::create(parse_profile(profile_bytes).value(), toy::Backend().geometry()).value();
  }

  /// Writes all of them into the store.
  void write() {
    for (const ElementType type : {ElementType::f32, ElementType::f16, ElementType::bf16}) write_codings(type);
    write_turns();
    write_forks();
    write_interrupted();
  }

  /// The coders of foreign_parts.hpp that chunks name.
  [[nodiscard]] static std::vector<AnyChunkCoder> coders() {
    return {LayerPairCompressor(Separate{}, InvertedCodec{}), LayerPairCompressor(DifferingBits{}, InvertedCodec{})};
  }
  /// Token t of the toy model means "<t>".
  [[nodiscard]] static std::string texts_hash(std::span<const Token> tokens) {
    std::vector<std::string> texts;
    for (int token = 0; token < 64; ++token) texts.push_back("<" + std::to_string(token) + ">");
    std::vector<std::int64_t> kinds(texts.size(), Vocabulary::control);
    for (unsigned byte = 0; byte < 256; ++byte)
      texts.push_back(testing::byte_letter(byte));  // no tokenizer goes without
    kinds.resize(texts.size(), Vocabulary::normal);
    const Vocabulary vocabulary{"gpt-2", {texts.begin(), texts.end()}, kinds, {}, {}};
    const auto tokenizer = Tokenizer::from_vocabulary(vocabulary);
    REQUIRE_MESSAGE(tokenizer.has_value(), tokenizer.error().message);
    return tokenizer->texts_hash(tokens);
  }

 private:
  /// Appends to what is saved under an id, or begins it.
  void save(const std::string& id, const GoldenTurn& turn) {
    toy::Backend model(turn.type);
    const std::string folder = conversation_folder(id).value();
    const auto loaded = load_saved(store_, id);
    Manifest manifest = loaded ? loaded->manifest : new_manifest(model, id, turn.block);
    const std::size_t unchanged = manifest.rows;
    std::vector<Token> tokens = manifest.tokens;
    for (const Token token : toy_tokens(rows + 1)) tokens.push_back(token);
    tokens.resize(turn.rows + turn.pending);

    auto cache = model.make_cache(rows);
    auto batch = model.make_batch();
    std::vector<float> logits(model.geometry().vocabulary);
    prefill(model, cache, batch, std::span(tokens).first(turn.rows), logits);
    draw_rows(cache, model.geometry(), turn);

    Workers workers(1);
    const AttentionStatistics statistics = drawn_statistics(model.geometry(), turn.rows);
    const TokenFeatures features = features_for(model, turn.plan, std::span(tokens).first(turn.rows));
    const SaveJob<toy::Backend::Cache, MemoryStore> job{.store = store_,
                                                        .folder = folder,
                                                        .cache = cache,
                                                        .geometry = model.geometry(),
                                                        .workers = workers,
                                                        .plan = turn.plan,
                                                        .statistics = turn.seen ? &statistics : nullptr,
                                                        .features = &features,
                                                        .texts = turn.seen ? texts_hash(tokens) : ""};
    const auto saved = save_conversation(job, manifest, tokens, unchanged);
    REQUIRE_MESSAGE(saved.has_value(), id, ": ", saved.error().message);
  }

  /// Rows of all layers, the same leading ones for any number of them.
  void draw_rows(toy::Backend::Cache& cache, const Geometry& geometry, const GoldenTurn& turn) const {
    std::vector<std::byte> bytes[2];
    for (std::size_t layer = 0; layer < geometry.layers; ++layer) {
      for (std::size_t tensor = 0; tensor < 2; ++tensor) {
        std::uint64_t seed = (2 * layer + tensor) << 32;
        auto drawn = GoldenConversation::values(turn.rows * geometry.kv_values(), seed);
        if (turn.first_row)
          for (std::size_t i = 0; i < geometry.kv_values(); ++i)
            drawn[i] = float_from_f16(profile_->data().first_row[(2 * layer + tensor) * geometry.kv_values() + i]);
        if (turn.values == GoldenValues::zeros) std::ranges::fill(drawn, 0.0F);
        if (turn.values == GoldenValues::quarters)
          for (float& value : drawn) value = std::rint(4 * value) / 4;
        bytes[tensor].resize(turn.rows * geometry.kv_row_bytes());
        from_float(geometry.cache_type, drawn, bytes[tensor]);
      }
      cache.wait(cache.write_kv(layer, {0, turn.rows}, {bytes[0], bytes[1]}));
    }
  }

  [[nodiscard]] static AttentionStatistics drawn_statistics(const Geometry& geometry, std::size_t rows) {
    AttentionStatistics statistics(geometry.layers, geometry.query_heads);
    statistics.rows = rows;
    statistics.reserve_keys(rows);
    std::uint64_t seed = 0;
    const auto quarters = [&seed] { return static_cast<double>(krul::detail::mix(++seed) >> 54) / 4; };
    for (std::size_t i = 0; i < geometry.layers; ++i)
      for (std::size_t j = i + 1; j < geometry.layers; ++j)
        statistics.squared[i * geometry.layers + j] = statistics.squared[j * geometry.layers + i] = quarters();
    for (double& mass : statistics.mass) mass = quarters();
    return statistics;
  }
  /// Every code that a sum can have, 0 as well.
  [[nodiscard]] std::shared_ptr<const RowAttention> drawn_attention(std::size_t rows) const {
    RowAttention attention(bands_of(*profile_));
    attention.reserve_rows(rows);
    attention.counted = 12.625;
    for (std::size_t i = 0; i < attention.squares.size(); ++i) {
      const auto code = static_cast<float>(krul::detail::mix(i) >> 56);
      attention.squares[i] = code > 0 ? std::exp2(code / 8 - 20) : 0;
    }
    return std::make_shared<const RowAttention>(std::move(attention));
  }

  template <SharingPolicy Sharing, RowCodec Codec>
  [[nodiscard]] static SavePlan paired(Sharing sharing, Codec codec) {
    SavePlan plan = SavePlan::separate(codec, "by hand");
    plan.pair_coding = LayerPairCompressor(std::move(sharing), std::move(codec));
    plan.pairs = {{0, 3}, {1, 2}};
    plan.settings = "pairs 0+3 1+2";
    return plan;
  }
  template <RowCodec Codec>
  [[nodiscard]] static SavePlan packed(Codec codec) {
    SavePlan plan;
    plan.coding = LayerPairCompressor(Packed{}, std::move(codec));
    plan.strategy = "by hand";
    return plan;
  }
  /// By the profile. With classes they are drawn, but for the last rows, which are all alike.
  [[nodiscard]] SavePlan by_profile(std::size_t rows, StepScale step, bool classes) const {
    SavePlan plan = SavePlan::joint(profile_, step, "by hand");
    plan.recent.count = 0;
    if (!classes) return plan;
    for (std::size_t group = 0; group < profile_->data().groups.size(); ++group)
      for (std::size_t row = 0; row < rows; ++row)
        plan.classes.push_back(row < rows / 2 ? static_cast<std::uint8_t>(krul::detail::mix(group * rows + row) % 16)
                                              : 9);
    plan.row_attention = drawn_attention(rows);
    return plan;
  }

  /// A block for each coding that a plan can name, all in one conversation: so many saves, plans and segments. For
  /// other caches than f16 the first ones, whose bytes depend on the type.
  void write_codings(ElementType type) {
    using Width = SlerpMerge::Width;
    using Kept = DirectReuse::Kept;
    const std::vector<SavePlan> plans{SavePlan::separate(ExactCodec{}, "by hand"),
                                      SavePlan::separate(F16Codec{}, "by hand"),
                                      SavePlan::separate(Bf16Codec{}, "by hand"),
                                      SavePlan::separate(Int8Codec{}, "by hand"),
                                      SavePlan::separate(Int4Codec{}, "by hand"),
                                      paired(SlerpMerge({.width = Width::head}), ExactCodec{}),
                                      paired(SlerpMerge{}, Int8Codec{}),
                                      paired(SlerpMerge({.width = Width::head, .merge_values = false}), Int4Codec{}),
                                      paired(SlerpMerge({.merge_keys = false}), Bf16Codec{}),
                                      paired(DirectReuse({.kept = Kept::deeper}), ExactCodec{}),
                                      paired(DirectReuse({.share_values = false}), Int8Codec{}),
                                      paired(DirectReuse({.share_keys = false}), Int4Codec{}),
                                      packed(F16Codec{}),
                                      packed(Bf16Codec{}),
                                      packed(Int8Codec{}),
                                      packed(Int4Codec{})};
    constexpr std::size_t block = 3;
    for (std::size_t i = 0; i < (type == ElementType::f16 ? plans.size() : 7); ++i)
      save("codings-" + std::string(name(type)),
           {.rows = (i + 1) * block, .plan = plans[i], .block = block, .type = type});
  }

  /// Conversations of one save or two, by the profile.
  void write_turns() {
    save("classes", {.rows = 72, .plan = by_profile(72, {-6}, true), .block = 40, .first_row = true});

    save("packed", {.rows = 40, .plan = packed(ExactCodec{}), .block = 40, .values = GoldenValues::quarters});
    save("packed", {.rows = 60, .plan = packed(Int8Codec{}), .values = GoldenValues::quarters});

    // Nothing can be merged, and all peaks are zero.
    save("zeros", {.rows = 3, .plan = paired(SlerpMerge{}, F16Codec{}), .block = 3, .values = GoldenValues::zeros});
    save("zeros", {.rows = 6, .plan = SavePlan::separate(Int8Codec{}, "by hand"), .values = GoldenValues::zeros});
    save("zeros", {.rows = 9, .plan = paired(DirectReuse{}, Int4Codec{}), .values = GoldenValues::zeros});
    save("zeros", {.rows = 12, .plan = packed(ExactCodec{}), .values = GoldenValues::zeros});

    // So coarsely that in the second half no column is coded.
    save("coarse", {.rows = 40, .plan = by_profile(40, {30}, true), .block = 40});
    save("coarse", {.rows = 80, .plan = by_profile(80, {60}, false)});

    SavePlan front = by_profile(64, {3}, false);
    front.recent = {.count = 20, .finer = 25};
    front.left_out.assign(4, 16);
    front.measured_step = StepScale{-127};
    front.settings = "a front is left out";
    save("front", {.rows = 64, .plan = std::move(front)});

    save("turns", {.rows = 40, .plan = SavePlan::separate(Int8Codec{}, "by hand")});
    SavePlan second = by_profile(60, {-13}, true);
    second.measured_step = StepScale{-7};
    save("turns", {.rows = 60, .plan = std::move(second), .pending = 2, .seen = true});
  }

  /// What forks borrow: all of a conversation, a part of a fork, of two folders, and of a conversation that was erased.
  void write_forks() {
    const auto fork = [&](const std::string& from, const Fork& to) {
      const auto forked = fork_saved(store_, from, to);
      REQUIRE_MESSAGE(forked.has_value(), to.to, ": ", forked.error().message);
    };
    fork("turns", {.to = "fork"});
    SavePlan foreign = paired(DifferingBits{}, InvertedCodec{});
    foreign.pairs = {{0, 3}};
    foreign.settings = "pairs 0+3";
    foreign.row_attention = drawn_attention(rows);
    save("fork", {.rows = rows, .plan = std::move(foreign), .pending = 1, .seen = true});
    fork("fork", {.to = "fork-of-a-part", .tokens = 40});

    save("erased", {.rows = 10, .plan = SavePlan::separate(Int4Codec{}, "by hand"), .block = 8});
    fork("erased", {.to = "orphan"});
    REQUIRE(erase_saved(store_, "erased")->is_lent);
    save("orphan", {.rows = 18, .plan = SavePlan::separate(Int8Codec{}, "by hand")});
    fork("orphan", {.to = "of-two-folders"});
  }

  void write_interrupted() {
    const SavePlan plan = SavePlan::separate(Int4Codec{}, "by hand");
    const auto key = [](const std::string& id, const std::string& name) {
      return conversation_folder(id).value() + "/" + name;
    };
    save("half-published", {.rows = 4, .plan = plan, .block = 4});
    const auto before = load_object(store_, key("half-published", "manifest-b"), 1 << 20).value();
    save("half-published", {.rows = 8, .plan = plan});
    REQUIRE(store_.put(key("half-published", "manifest-b"), before));

    save("half-erased", {.rows = 4, .plan = plan, .block = 4});
    REQUIRE(store_.erase(key("half-erased", "manifest-b")));

    for (const std::size_t until : {4U, 8U, 12U}) save("given-up", {.rows = until, .plan = plan, .block = 4});
    const auto saved = load_saved(store_, "given-up").value();
    REQUIRE(store_.erase(key("given-up", saved.manifest.objects[1])));
    REQUIRE(give_up_damaged(store_, conversation_folder("given-up").value()).value() == 4);
  }

  MemoryStore& store_;
  std::shared_ptr<const Profile> profile_;
};

}  // namespace krul::test
