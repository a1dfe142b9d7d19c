// What the benchmark of devices is made of, without a device.
#include <doctest/doctest.h>

#include <cmath>

#include "../benchmarks/cuda/drawn_model.hpp"
#include "../benchmarks/cuda/drawn_profile.hpp"
#include "../benchmarks/cuda/result_table.hpp"
#include "../benchmarks/cuda/symbol_copies.hpp"
#include "cuda/ordered_device.hpp"
#include "krul/backend/forward.hpp"
#include "krul/cuda/device_backend.hpp"

namespace krul::cuda::test::bench_parts {

TEST_CASE("a model that was drawn is one of its shape, and gives finite logits") {
  for (const char* name : {"llama", "qwen2"}) {
    const simulate::ModelShape shape{name, 5, 64, 4, 2, 16, 96, 300, 2};
    const bench::DrawnModel drawn(shape, 2);
    // No larger than its embedding, its ones and its head.
    CHECK(drawn.bytes().size() < 300 * 64 * 2 + 4096);
    const auto file = GgufFile::from_memory(drawn.bytes(), "drawn").value();
    const auto model = DecoderFile::read(file, ElementType::f16);
    REQUIRE(model);
    CHECK(model->geometry.layers == 2);
    CHECK(model->geometry.head_dim == 16);
    CHECK(model->geometry.vocabulary == 300);
    CHECK(model->mlp == 96);
    CHECK((model->layers[1].query_bias != nullptr) == (name == std::string("qwen2")));

    OrderedDevice device(1);
    using Products = cuda::KernelProducts<OrderedDevice>;
    auto backend = cuda::DeviceBackend<OrderedDevice, Products>::load(
        GgufFile::from_memory(drawn.bytes(), "drawn").value(), device, device.make_stream().value(),
        Products(device, ElementType::bf16), {});
    REQUIRE(backend);
    auto cache = backend->make_cache(4);
    auto batch = backend->make_batch();
    const std::vector<Token> tokens{1, 2, 3, 4};
    std::vector<float> logits(4 * shape.vocabulary);
    forward(*backend, cache, batch, tokens, logits);
    CHECK(std::ranges::all_of(logits, [](float each) { return std::isfinite(each); }));
    CHECK(std::ranges::any_of(logits, [&](float each) { return each != logits[0]; }));
  }
}

TEST_CASE("chunks that were drawn are decoded, and are as small as such chunks are") {
  for (const bool predicted : {true, false}) {
    const auto drawn = bench::DrawnChunks::draw({"smollm2-135m", 1, 96, predicted}, 2);
    REQUIRE(drawn);
    REQUIRE(drawn->chunks.size() == 2);
    const JointTransform coding(drawn->profile, 0, StepScale{});
    OwnedKvRows rows(drawn->geometry, bench::DrawnChunks::rows);
    const MutableKvRows view = rows.view();
    const std::size_t at = bench::DrawnChunks::rows;
    REQUIRE(
        coding.decode(drawn->geometry, drawn->chunks[0], {&view, 1}, {static_cast<Position>(at), drawn->features, {}}));
    const double strength = static_cast<double>(drawn->row_bytes()) / static_cast<double>(drawn->chunks[0].size());
    CHECK(strength > 4);
    CHECK(strength < 16);
  }
}

TEST_CASE("copies of a chunk's symbols are all decoded, each to its place") {
  const auto drawn = bench::DrawnChunks::draw({"smollm2-135m", 1, 96, false}, 1).value();
  OrderedDevice device(1);
  cuda::StagingRing<OrderedDevice> ring(device, device.make_stream().value(), {.slots = 2, .slot_bytes = 1 << 16});
  const bench::SymbolCopies<OrderedDevice> copies(device, ring, drawn, 3);
  REQUIRE(device.launch(ring.stream(), cuda::Touching{copies.kernel(), std::array{copies.memory()}}, {3, 32}));
  device.finish();
  for (std::size_t copy = 0; copy < 3; ++copy) {
    CHECK(copies.kernel().outcomes[copy] == krul::detail::DecodeOutcome::sound);
    CHECK(
        std::equal(copies.decoded(), copies.decoded() + copies.symbols(), copies.decoded() + copy * copies.symbols()));
  }
  CHECK(copies.symbols() > 64 * 96);
  CHECK(
      std::any_of(copies.decoded(), copies.decoded() + copies.symbols(), [](std::int16_t each) { return each != 0; }));
}

TEST_CASE("tables are written as CSV") {
  bench::ResultTable table("parts", {"name", "value"});
  table.add({"a, \"b\"", bench::number_text(12345.678)});
  table.add({"c", bench::number_text(0.5)});
  CHECK(table.csv() == "name,value\n\"a, \"\"b\"\"\",1.235e+04\nc,0.5\n");
  CHECK_THROWS_AS(table.add({"d"}), PreconditionError);
}

}  // namespace krul::cuda::test::bench_parts
