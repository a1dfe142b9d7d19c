#include "krul/cuda/device_backend.hpp"

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "conformance/backend_suite.hpp"
#include "cuda/ordered_device.hpp"
#include "krul/backend/forward.hpp"
#include "krul/model/cpu_backend.hpp"
#include "krul/similarity/row_attention_estimator.hpp"
#include "support/reference_model.hpp"
#include "support/relative_error.hpp"
#include "support/tiny_model.hpp"

using namespace krul;
using cuda::test::OrderedDevice;
using krul::testing::relative_error;

namespace {

using Products = cuda::KernelProducts<OrderedDevice>;
using Backend = cuda::DeviceBackend<OrderedDevice, Products>;
static_assert(cuda::DeviceProducts<Products, OrderedDevice>);
static_assert(ModelBackend<Backend>);

Result<Backend> load(OrderedDevice& device, std::span<const std::byte> bytes, ElementType cache_type, ElementType type,
                     cuda::DeviceBackendOptions options = {}) {
  options.cache_type = cache_type;
  options.tokenizer = "tiny";
  return Backend::load(GgufFile::from_memory(bytes, "tiny.gguf").value(), device, device.make_stream().value(),
                       Products(device, type), options);
}

const krul::testing::TinyModel llama{.layers = 2};
const krul::testing::TinyModel qwen2{
    .architecture = "qwen2", .layers = 2, .hidden = 96, .heads = 6, .kv_heads = 1, .ffn = 160, .tied = false};

constexpr ElementType types[] = {ElementType::f32, ElementType::f16, ElementType::bf16};

}  // namespace

TEST_CASE("a model on a device conforms with every architecture, cache type and type of products") {
  for (const auto& options : {llama, qwen2}) {
    const auto bytes = krul::testing::tiny_model(options);
    for (std::size_t i = 0; i < 3; ++i) {
      const ElementType cache_type = types[i], type = types[(i + (options.tied ? 0 : 1)) % 3];
      CAPTURE(options.architecture);
      CAPTURE(name(cache_type));
      CAPTURE(name(type));
      OrderedDevice device(7 + i);
      auto model = load(device, bytes, cache_type, type, {.memory = {.tile_rows = 16}});
      REQUIRE(model);
      // Attention rounds queries and weights to the cache's type.
      const auto rougher = unit_roundoff(type) > unit_roundoff(cache_type) ? type : cache_type;
      krul::test::require_conformance(krul::check_backend(*model, {.tokens = 24, .compute_type = rougher}));
    }
  }
}

TEST_CASE("logits of a model on a device agree with the twin") {
  for (const auto& options : {llama, qwen2}) {
    const auto bytes = krul::testing::tiny_model(options);
    const auto opened = GgufFile::from_memory(bytes, "tiny.gguf").value();
    const auto twin = krul::testing::reference_decoder(*DecoderFile::read(opened, ElementType::f32));
    std::vector<Token> tokens;
    std::mt19937 random(3);
    for (std::size_t i = 0; i < 50; ++i) tokens.push_back(static_cast<Token>(random() % options.vocabulary));
    const auto expected = reference::forward(twin, tokens);
    for (const auto cache_type : types)
      for (const auto type : types) {
        CAPTURE(name(cache_type));
        CAPTURE(name(type));
        OrderedDevice device(11);
        auto model = load(device, bytes, cache_type, type);
        REQUIRE(model);
        auto cache = model->make_cache(tokens.size());
        auto batch = model->make_batch();
        std::vector<float> logits(tokens.size() * model->geometry().vocabulary);
        forward(*model, cache, batch, tokens, logits);
        // Each layer rounds the factors of nine products once, two of them to the cache's type, and sums of `depth`
        // terms in f32. Norms keep activations near 1, and the residual at most doubles what adds up over the layers.
        const double roundoff = std::max(unit_roundoff(type), unit_roundoff(cache_type));
        const double steps = 9.0 * options.layers + 1;
        CHECK(relative_error(logits, expected.logits) <=
              2 * steps * (roundoff + std::max(options.ffn, options.hidden) * 0x1p-24));
      }
  }
}

TEST_CASE("what embed gives are the processor's bits") {
  const auto bytes = krul::testing::tiny_model({.weights = GgufType::q8_0});
  OrderedDevice device(1);
  auto model = load(device, bytes, ElementType::f16, ElementType::bf16);
  REQUIRE(model);
  auto file = GgufFile::from_memory(bytes, "tiny.gguf").value();
  auto on_host = CpuBackend<AnyKernels>::load(std::move(file), *AnyKernels::choose(KernelChoice::eigen, std::nullopt),
                                              {.threads = 1, .tokenizer = "tiny"});
  REQUIRE(on_host);
  CHECK(on_host->identity().weights == model->identity().weights);
  CHECK(differences(on_host->identity(), model->identity()).empty());
  const std::vector<Token> tokens{1, 7, 300};
  const std::vector<Position> positions{0, 3, 4};
  auto batch = model->make_batch();
  auto host_batch = on_host->make_batch();
  batch.assign(positions);
  host_batch.assign(positions);
  model->embed(tokens, batch);
  on_host->embed(tokens, host_batch);
  CHECK(std::ranges::equal(batch.hidden(), host_batch.hidden()));
  CHECK_THROWS_AS(model->embed(std::vector<Token>{1, 2, 320}, batch), PreconditionError);
}

TEST_CASE("a model that a device cannot take is refused with a reason") {
  OrderedDevice device(1);
  SUBCASE("heads of no tiles") {
    const auto bytes = krul::testing::tiny_model({.hidden = 96, .heads = 8, .kv_heads = 2, .ffn = 96});
    const auto model = load(device, bytes, ElementType::f16, ElementType::f16);
    REQUIRE_FALSE(model);
    CHECK(model.error().code == ErrorCode::unsupported);
    CHECK(model.error().message.find("heads of 12 values") != std::string::npos);
  }
  SUBCASE("no memory for the weights") {
    const auto bytes = krul::testing::tiny_model(llama);
    device.fail_allocation(0);
    const auto model = Backend::load(GgufFile::from_memory(bytes, "tiny.gguf").value(), device,
                                     device.make_stream().value(), Products(device, ElementType::f32), {});
    REQUIRE_FALSE(model);
    CHECK(model.error().code == ErrorCode::too_large);
    CHECK(model.error().message.find("MiB as f32 on the device") != std::string::npos);
  }
}

namespace {

/// Shows an estimator blocks, and does not tell that sums would do.
struct Blocks {
  RowAttentionEstimator* estimator;
  void operator()(const AttentionBlock& block) const { (*estimator)(block); }
  [[nodiscard]] bool wants(Position query) const { return estimator->wants(query); }
};
static_assert(SelectiveObserver<Blocks> && !SummingObserver<Blocks>);

}  // namespace

TEST_CASE("what rows receive is summed on the device as the estimator sums it") {
  const auto bytes = krul::testing::tiny_model({.layers = 10});
  OrderedDevice device(3);
  auto model = load(device, bytes, ElementType::f16, ElementType::f32);
  REQUIRE(model);
  const Geometry& geometry = model->geometry();
  std::vector<Token> tokens;
  std::mt19937 random(3);
  for (std::size_t i = 0; i < 150; ++i) tokens.push_back(static_cast<Token>(random() % 320));
  RowAttentionEstimator summed(geometry, {4, 6}), shown(geometry, {4, 6});
  const auto run = [&](RowAttentionEstimator& estimator, auto& observer) {
    auto cache = model->make_cache(tokens.size());
    auto batch = model->make_batch();
    // In two passes, of which the second goes on, and with rows that are not looked at.
    for (const auto& [begin, end] : {std::pair<std::size_t, std::size_t>{0, 100}, {100, tokens.size()}}) {
      estimator.observe_from(static_cast<Position>(begin));
      estimator.observe_until(static_cast<Position>(end));
      forward(*model, cache, batch, std::span(tokens).subspan(begin, end - begin), {}, observer);
    }
  };
  run(summed, summed);
  Blocks blocks{&shown};
  run(shown, blocks);
  CHECK(summed.attention().counted == shown.attention().counted);
  REQUIRE(summed.attention().squares.size() == shown.attention().squares.size());
  // Each sum of at most 64 rows and two layers is added in two parts in the one case.
  const double allowed = 2 * 128 * 0x1p-24;
  double all = 0;
  for (std::size_t i = 0; i < summed.attention().squares.size(); ++i) {
    const double found = summed.attention().squares[i], expected = shown.attention().squares[i];
    CHECK(std::abs(found - expected) <= allowed * expected);
    all += expected;
  }
  CHECK(all > 0);
}
