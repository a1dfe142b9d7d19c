#include "krul/model/cpu_backend.hpp"
#include "krul/core/half.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <map>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "krul/backend/forward.hpp"
#include "krul/backend/forward_each.hpp"
#include "krul/core/processor.hpp"
#include "krul/model/weights_identity.hpp"
#include "support/levels.hpp"
#include "support/reference_model.hpp"
#include "support/relative_error.hpp"
#include "support/tiny_model.hpp"

using namespace krul;
using krul::testing::relative_error, krul::testing::TinyModel;

namespace {

/// A tiny model in memory, its twin, and some tokens.
struct Tiny {
  std::vector<std::byte> bytes;
  reference::Decoder twin;
  std::vector<Token> tokens;

  explicit Tiny(const TinyModel& options, std::size_t count = 50) : bytes(krul::testing::tiny_model(options)) {
    const auto opened = file();
    twin = krul::testing::reference_decoder(*DecoderFile::read(opened, ElementType::f32));
    std::mt19937 random(3);
    for (std::size_t i = 0; i < count; ++i) tokens.push_back(static_cast<Token>(random() % options.vocabulary));
  }
  [[nodiscard]] GgufFile file() const { return std::move(*GgufFile::from_memory(bytes, "tiny.gguf")); }

  [[nodiscard]] CpuBackend<AnyKernels> load(AnyKernels kernels, CpuBackendOptions options = {}) const {
    auto backend = CpuBackend<AnyKernels>::load(file(), std::move(kernels), options);
    REQUIRE(backend);
    return std::move(*backend);
  }
};

/// Logits of all tokens, [T, vocabulary], given in pieces of these sizes (the last one for all that is left).
std::vector<float> logits_in_pieces(CpuBackend<AnyKernels>& model, std::span<const Token> tokens,
                                    std::vector<std::size_t> pieces = {}) {
  auto cache = model.make_cache(tokens.size());
  auto batch = model.make_batch();
  const std::size_t vocabulary = model.geometry().vocabulary;
  std::vector<float> logits(tokens.size() * vocabulary);
  pieces.push_back(tokens.size());
  for (std::size_t at = 0, piece = 0; at < tokens.size(); ++piece) {
    const std::size_t count = std::min(pieces[piece], tokens.size() - at);
    forward(model, cache, batch, tokens.subspan(at, count),
            std::span(logits).subspan(at * vocabulary, count * vocabulary));
    at += count;
  }
  return logits;
}

AnyKernels eigen() {
  return *AnyKernels::choose(KernelChoice::eigen, Precision::f32);
}
AnyKernels automatic() {
  return *AnyKernels::choose(KernelChoice::automatic, std::nullopt);
}

/// Each layer rounds the factors of seven products once, with relative error u, and sums of `depth` terms in f32. The
/// errors add up over layers and the output; norms keep activations near 1, and the residual at most doubles them.
double allowed(const TinyModel& options, double roundoff) {
  const double steps = 7.0 * options.layers + 1;
  return 2 * steps * (roundoff + std::max(options.ffn, options.hidden) * 0x1p-24);
}

const TinyModel llama{.layers = 3};
const TinyModel qwen2{
    .architecture = "qwen2", .layers = 2, .hidden = 96, .heads = 6, .kv_heads = 1, .ffn = 160, .tied = false};

}  // namespace

TEST_CASE("logits, keys and values agree with the twin") {
  for (const auto& options : {llama, qwen2}) {
    const Tiny tiny(options);
    const auto expected = reference::forward(tiny.twin, tiny.tokens);
    std::vector<AnyKernels> all{eigen()};
    if (const auto kernels = AnyKernels::choose(KernelChoice::onednn, std::nullopt)) all.push_back(*kernels);
    for (const auto precision : {Precision::f32, Precision::bf16, Precision::int8})
      all.push_back(*AnyKernels::choose(KernelChoice::krul, precision));
    for (const auto& kernels : all) {
      CAPTURE(kernels.name());
      const double roundoff = unit_roundoff(kernels.precision());
      for (const auto type : {ElementType::f32, ElementType::f16, ElementType::bf16}) {
        CAPTURE(name(type));
        auto model = tiny.load(kernels, {.threads = 2, .cache_type = type});
        const double bound = allowed(options, std::max(roundoff, unit_roundoff(type)));
        CHECK(relative_error(logits_in_pieces(model, tiny.tokens), expected.logits) <= bound);

        auto cache = model.make_cache(tiny.tokens.size());
        auto batch = model.make_batch();
        forward(model, cache, batch, tiny.tokens, {});
        const std::size_t row = model.geometry().kv_row_bytes() * tiny.tokens.size();
        for (std::size_t layer = 0; layer < options.layers; ++layer) {
          std::vector<float> keys(tiny.tokens.size() * model.geometry().kv_values()), values(keys.size());
          to_float(type, std::as_const(cache).view(layer).keys.first(row), keys);
          to_float(type, std::as_const(cache).view(layer).values.first(row), values);
          CHECK(relative_error(keys, expected.keys[layer]) <= bound);
          CHECK(relative_error(values, expected.values[layer]) <= bound);
        }
      }
    }
  }
}

TEST_CASE("quantised weights are unpacked to what the twin reads") {
  for (const auto type : {GgufType::q4_1, GgufType::q8_0, GgufType::f16, GgufType::bf16}) {
    CAPTURE(name(type));
    TinyModel options = llama;
    options.weights = type;
    const Tiny tiny(options, 12);
    const auto expected = reference::forward(tiny.twin, tiny.tokens).logits;
    auto model = tiny.load(eigen(), {.threads = 1, .cache_type = ElementType::f32});
    CHECK(relative_error(logits_in_pieces(model, tiny.tokens), expected) <= allowed(options, 0x1p-24));
    // int8 keeps the codes of q4_1 at some levels. Its roundings are independent and add up in squares.
    const double steps = 7.0 * static_cast<double>(options.layers) + 1;
    const double bound = 2 * std::sqrt(steps) * unit_roundoff(Precision::int8);
    for (const Processor& processor : testing::processors_by_level()) {
      auto bytes = tiny.load(AnyKernels(KrulKernels(Precision::int8, processor)), {.threads = 1});
      CAPTURE(bytes.identity().kernels);
      CHECK(relative_error(logits_in_pieces(bytes, tiny.tokens), expected) <= bound);
    }
  }
}

TEST_CASE("with krul's kernels and oneDNN's a row's bits depend neither on its batch nor on the threads") {
  std::vector<AnyKernels> all;
  for (const auto precision : {Precision::f32, Precision::bf16, Precision::int8})
    all.push_back(*AnyKernels::choose(KernelChoice::krul, precision));
  if (const auto kernels = AnyKernels::choose(KernelChoice::onednn, std::nullopt);
      kernels && includes(instruction_level(), InstructionLevel::avx512))
    all.push_back(*kernels);
  for (const auto weights : {GgufType::f32, GgufType::q4_1}) {
    TinyModel options = llama;
    options.weights = weights;
    const Tiny tiny(options, 300);
    for (const auto& kernels : all) {
      CAPTURE(kernels.name());
      auto model = tiny.load(kernels, {.threads = 2});
      const auto whole = logits_in_pieces(model, tiny.tokens);
      CHECK(logits_in_pieces(model, tiny.tokens, {170, 1, 1, 7, 64}) == whole);
      auto alone = tiny.load(kernels, {.threads = 1});
      CHECK(logits_in_pieces(alone, tiny.tokens) == whole);
      auto many = tiny.load(kernels, {.threads = 5});
      CHECK(logits_in_pieces(many, tiny.tokens, {33, 40}) == whole);
    }
  }
}

TEST_CASE("several caches in one pass get the bits that each gets alone") {
  const Tiny tiny(llama, 400);
  for (const auto precision : {Precision::f32, Precision::bf16, Precision::int8}) {
    CAPTURE(name(precision));
    auto model = tiny.load(*AnyKernels::choose(KernelChoice::krul, precision), {.threads = 2});
    const std::size_t vocabulary = model.geometry().vocabulary;
    // Prompts of different lengths, then token by token: few rows and many, shared by columns and by tiles.
    constexpr std::size_t count = 7, steps = 5;
    const std::size_t lengths[count] = {1, 40, 300, 2, 17, 129, 64};
    const auto text = [&](std::size_t i) { return std::span(tiny.tokens).subspan(i, lengths[i] + steps); };
    std::vector<HostKvCache> caches;
    for (std::size_t i = 0; i < count; ++i) caches.push_back(model.make_cache(400));
    auto batch = model.make_batch();
    std::vector<float> logits(count * vocabulary);
    std::vector<std::vector<float>> found(count);
    for (std::size_t step = 0; step <= steps; ++step) {
      std::vector<Continuation<HostKvCache>> parts;
      for (std::size_t i = 0; i < count; ++i)
        parts.push_back(
            {&caches[i], step == 0 ? text(i).first(lengths[i]) : text(i).subspan(lengths[i] + step - 1, 1)});
      forward_each<CpuBackend<AnyKernels>>(model, batch, parts, logits);
      for (std::size_t i = 0; i < count; ++i) {
        const auto row = std::span(logits).subspan(i * vocabulary, vocabulary);
        found[i].insert(found[i].end(), row.begin(), row.end());
      }
    }
    for (std::size_t i = 0; i < count; ++i) {
      CAPTURE(i);
      auto alone = model.make_cache(400);
      std::vector<float> expected((steps + 1) * vocabulary);
      forward(model, alone, batch, text(i), expected);
      CHECK(found[i] == expected);
      REQUIRE(caches[i].length() == text(i).size());
      const std::size_t bytes = text(i).size() * model.geometry().kv_row_bytes();
      for (std::size_t layer = 0; layer < model.geometry().layers; ++layer) {
        const KvRows rows = std::as_const(caches[i]).view(layer), wanted = std::as_const(alone).view(layer);
        CHECK(std::ranges::equal(rows.keys.first(bytes), wanted.keys.first(bytes)));
        CHECK(std::ranges::equal(rows.values.first(bytes), wanted.values.first(bytes)));
      }
    }
  }
}

TEST_CASE("a prefix and a prompt in one batch, with rows that are already there") {
  const Tiny tiny(qwen2, 48);
  auto model = tiny.load(eigen(), {.threads = 2, .cache_type = ElementType::f32});
  const auto whole = logits_in_pieces(model, tiny.tokens);
  auto full = model.make_cache(48);
  auto batch = model.make_batch();
  forward(model, full, batch, tiny.tokens, {});

  auto cache = model.make_cache(48);
  for (std::size_t layer = 0; layer < 2; ++layer) {  // tokens 10 to 40 are loaded
    const std::size_t row = model.geometry().kv_row_bytes();
    const auto rows = std::as_const(full).view(layer);
    cache.wait(cache.write_kv(layer, {10, 40},
                              {rows.keys.subspan(10 * row, 30 * row), rows.values.subspan(10 * row, 30 * row)}));
  }
  std::vector<Position> positions(10);
  std::iota(positions.begin(), positions.end(), Position{0});
  std::vector<Token> tokens(tiny.tokens.begin(), tiny.tokens.begin() + 10);
  for (Position position = 38; position < 48; ++position) {
    positions.push_back(position);
    tokens.push_back(tiny.tokens[position]);
  }
  batch.assign(positions);
  model.embed(tokens, batch);
  for (std::size_t layer = 0; layer < 2; ++layer) {
    model.project(layer, batch, cache, KvWrite::missing);
    model.attend(layer, batch, cache, NullObserver{});
    model.finish(layer, batch);
  }
  cache.commit(48);
  std::vector<float> last(model.geometry().vocabulary);
  model.logits(batch, {19, 20}, last);
  const std::vector<double> expected(whole.end() - static_cast<std::ptrdiff_t>(last.size()), whole.end());
  CHECK(relative_error(last, expected) <= allowed(qwen2, 0x1p-24));
}

TEST_CASE("an observer sees each row of each layer once, in blocks of at most 128 rows") {
  const Tiny tiny(llama, 150);
  auto model = tiny.load(automatic(), {.threads = 2});
  auto cache = model.make_cache(150);
  auto batch = model.make_batch();
  std::map<std::pair<std::size_t, Position>, int> seen;
  double worst = 0;
  const auto observer = [&](const AttentionBlock& block) {
    CHECK(block.queries.size() <= 128);
    CHECK(block.query_heads == 4);
    CHECK(block.keys == block.queries.back() + 1);
    REQUIRE(block.weights.size() == 4 * block.queries.size() * block.keys);
    for (const Position query : block.queries) ++seen[{block.layer, query}];
    for (std::size_t row = 0; row < 4 * block.queries.size(); ++row) {
      const auto weights = block.weights.subspan(row * block.keys, block.keys);
      worst = std::fmax(worst, std::abs(std::accumulate(weights.begin(), weights.end(), 0.0) - 1));
    }
  };
  forward(model, cache, batch, tiny.tokens, {}, observer);
  CHECK(seen.size() == 3 * 150);
  for (const auto& [row, times] : seen) CHECK(times == 1);
  // Each weight is rounded once or twice, and they sum to 1. Their sum before was rounded at most once for each of a
  // cell unit's keys and each cell unit.
  const double sums = LentWeights::cell_unit + 150.0 / LentWeights::cell_unit;
  CHECK(worst <= (4 + sums) * 0x1p-24);
}

TEST_CASE("passes in several threads do not disturb one another") {
  const Tiny tiny(llama, 60);
  auto model = tiny.load(automatic(), {.threads = 2});
  const auto expected = logits_in_pieces(model, tiny.tokens, {30, 1, 1});
  std::vector<float> found[2];
  {
    std::vector<std::jthread> passes;
    for (auto& logits : found) passes.emplace_back([&] { logits = logits_in_pieces(model, tiny.tokens, {30, 1, 1}); });
  }
  CHECK(found[0] == expected);
  CHECK(found[1] == expected);
}

TEST_CASE("the identity says what must match and what computed it") {
  const Tiny tiny(llama);
  const auto model = tiny.load(eigen(), {.threads = 2, .cache_type = ElementType::bf16, .tokenizer = "abc"});
  CHECK(model.identity().architecture == "llama");
  CHECK(model.identity().weights == weights_identity(tiny.file(), "llama"));
  CHECK(model.identity().former_weights == weights_hash(tiny.file()));
  CHECK(model.identity().tokenizer == "abc");
  CHECK(model.identity().geometry == describe(model.geometry()));
  CHECK(model.identity().geometry.find("cache=bf16") != std::string::npos);
  CHECK(model.identity().kernels == "eigen f32");
  CHECK(model.identity().processor == Processor::detect().describe());
  CHECK(model.identity().threads == "2");
  const std::size_t panels = panels_of(model.geometry().vocabulary);
  CHECK(model.weight_bytes().output == panels * panel_columns * model.geometry().hidden * sizeof(float));
  CHECK(model.weight_bytes().layers > 0);
  auto other = llama;
  other.seed = 9;
  CHECK(Tiny(other).load(eigen()).identity().weights != model.identity().weights);
}

TEST_CASE("the context is what the file says, or less if that is asked for") {
  const Tiny tiny(llama);
  const auto load = [&](std::size_t context) {
    return CpuBackend<AnyKernels>::load(tiny.file(), eigen(), {.threads = 1, .context = context});
  };
  CHECK(load(0)->geometry().context == llama.context);
  const auto shorter = load(100);
  CHECK(shorter->geometry().context == 100);
  CHECK(shorter->identity() == load(0)->identity());
  const auto longer = load(llama.context + 1);
  REQUIRE_FALSE(longer);
  CHECK(longer.error().code == ErrorCode::invalid_argument);
  CHECK(longer.error().message.find(std::to_string(llama.context)) != std::string::npos);
}

TEST_CASE("a caller's mistakes are refused") {
  const Tiny tiny(llama);
  auto model = tiny.load(eigen(), {.threads = 1});
  auto cache = model.make_cache(2000);
  auto batch = model.make_batch();
  const std::vector<Position> positions{3, 5};
  batch.assign(positions);
  CHECK_THROWS_AS(model.embed(std::vector<Token>{1}, batch), PreconditionError);
  CHECK_THROWS_AS(model.embed(std::vector<Token>{1, 320}, batch), PreconditionError);
  CHECK_THROWS_AS(model.embed(std::vector<Token>{-1, 1}, batch), PreconditionError);
  model.embed(std::vector<Token>{1, 2}, batch);
  CHECK_THROWS_AS(model.project(3, batch, cache, KvWrite::all), PreconditionError);
  auto small = model.make_cache(5);
  CHECK_THROWS_AS(model.project(0, batch, small, KvWrite::all), PreconditionError);
  model.project(0, batch, cache, KvWrite::all);
  CHECK_THROWS_AS(model.attend(0, batch, cache, NullObserver{}), PreconditionError);  // keys 0 to 2 and 4 are missing
  CHECK_THROWS_AS(model.attend(3, batch, cache, NullObserver{}), PreconditionError);
  CHECK_THROWS_AS(model.finish(3, batch), PreconditionError);
  std::vector<float> logits(2 * 320);
  CHECK_THROWS_AS(model.logits(batch, {0, 3}, logits), PreconditionError);
  CHECK_THROWS_AS(model.logits(batch, {0, 1}, logits), PreconditionError);
  const std::vector<RowRange> runs{{0, 1}, {1, 2}};  // of two caches
  batch.assign_runs(positions, runs);
  model.embed(std::vector<Token>{1, 2}, batch);
  HostKvCache* const both[] = {&cache, &small};
  CHECK_THROWS_AS(model.project(0, batch, cache, KvWrite::all), PreconditionError);
  CHECK_THROWS_AS(model.attend(0, batch, cache, NullObserver{}), PreconditionError);
  CHECK_THROWS_AS(model.project(0, batch, both, KvWrite::all), PreconditionError);  // position 5 in a cache of 5
  CHECK_THROWS_AS(model.attend(0, batch, std::span(both).first(1)), PreconditionError);
  CHECK_THROWS_AS(model.attend(0, batch, both), PreconditionError);  // keys are missing
  const std::vector<Position> beyond{1024};                          // the cache has room, the model has not
  batch.assign(beyond);
  model.embed(std::vector<Token>{1}, batch);
  CHECK_THROWS_AS(model.project(0, batch, cache, KvWrite::all), PreconditionError);
}

TEST_CASE("no rows are no work") {
  const Tiny tiny(llama);
  auto model = tiny.load(automatic());
  auto cache = model.make_cache(4);
  auto batch = model.make_batch();
  batch.assign({});
  model.embed({}, batch);
  model.project(0, batch, cache, KvWrite::all);
  model.attend(0, batch, cache, NullObserver{});
  model.finish(0, batch);
  model.logits(batch, {0, 0}, {});
  CHECK(cache.present(0).ranges().empty());
}

TEST_CASE("each bias of attention that a file has is added, alone or with others") {
  for (const char* biases : {"", "q", "k", "v", "qv", "qkv"}) {
    CAPTURE(biases);
    TinyModel options = llama;
    options.biases = biases;
    const Tiny tiny(options);
    auto model = tiny.load(eigen());
    CHECK(relative_error(logits_in_pieces(model, tiny.tokens), reference::forward(tiny.twin, tiny.tokens).logits) <
          1e-3);
  }
}

TEST_CASE("the vocabulary is the tokenizer's, not the embedding's") {
  for (const bool tied : {true, false}) {
    TinyModel options = llama;
    options.vocabulary = 301;
    options.tied = tied;
    options.rows_to_spare = 83;
    const Tiny tiny(options);
    auto all = tiny.load(eigen(), {.cache_type = ElementType::f32});
    auto own = tiny.load(eigen(), {.cache_type = ElementType::f32, .vocabulary = 301});
    CHECK(all.geometry().vocabulary == 384);
    CHECK(own.geometry().vocabulary == 301);
    const auto wide = logits_in_pieces(all, tiny.tokens), narrow = logits_in_pieces(own, tiny.tokens);
    for (std::size_t row = 0; row < tiny.tokens.size(); ++row)
      for (std::size_t i = 0; i < 301; ++i) REQUIRE(narrow[row * 301 + i] == doctest::Approx(wide[row * 384 + i]));
    auto batch = own.make_batch();
    batch.assign(std::vector<std::uint32_t>{0});
    CHECK_THROWS_AS(own.embed(std::vector<Token>{301}, batch), PreconditionError);
    const auto more = CpuBackend<AnyKernels>::load(tiny.file(), eigen(), {.vocabulary = 385});
    REQUIRE(!more);
    CHECK(more.error().code == ErrorCode::corrupt);
    CHECK(more.error().message == "the tokenizer of tiny.gguf has 385 tokens, the model 384");
  }
}

TEST_CASE("a file that cannot be run and a team that cannot be are refused") {
  const Tiny tiny(llama);
  const auto many = CpuBackend<AnyKernels>::load(tiny.file(), eigen(), {.threads = 5000});
  REQUIRE(!many);
  CHECK(many.error().code == ErrorCode::invalid_argument);
  krul::testing::GgufWriter file;
  file.set("general.architecture", std::string("mamba"));
  const auto bytes = file.bytes();
  const auto mamba = CpuBackend<AnyKernels>::load(std::move(*GgufFile::from_memory(bytes, "m.gguf")), eigen());
  REQUIRE(!mamba);
  CHECK(mamba.error().code == ErrorCode::unsupported);
}
