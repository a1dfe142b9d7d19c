#include "krul/any_model.hpp"

#include "conformance/backend_suite.hpp"
#include "krul/compress/exact_codec.hpp"
#include "krul/conversation/conversation.hpp"
#include "krul/store/memory_store.hpp"
#include "krul/strategy/catalogue/krul.hpp"
#include "krul/strategy/catalogue/load.hpp"
#include "support/tiny_model.hpp"

using namespace krul;

namespace {

CpuModel on_processor(const std::vector<std::byte>& file) {
  return CpuModel::load(GgufFile::from_memory(file, "tiny.gguf").value(),
                        AnyKernels::choose(KernelChoice::krul, std::nullopt).value(),
                        {.threads = 2, .tokenizer = "tiny"})
      .value();
}

/// What a model makes of a conversation that is saved and comes back.
struct Talk {
  std::vector<float> first, second;  // logits
  RestoreReport report = {};
};

template <ModelBackend B>
Talk talk_with(B& model, const AnyStrategy& strategy) {
  std::vector<Token> tokens;
  for (std::size_t i = 0; i < 400; ++i) tokens.push_back(static_cast<Token>(i * 37 % 300));
  const std::size_t vocabulary = model.geometry().vocabulary;
  Talk found{std::vector<float>(vocabulary), std::vector<float>(vocabulary)};
  MemoryStore store;
  {
    auto talk = open_conversation(model, store, "a talk", strategy).value();
    REQUIRE(talk.advance(std::span(tokens).first(300), found.first));
    REQUIRE(talk.save());
  }
  auto talk = open_conversation(model, store, "a talk", strategy).value();
  found.report = talk.advance(tokens, found.second).value();
  return found;
}

}  // namespace

TEST_CASE("krul's model conforms behind the type that may hold a device's") {
  const auto file = krul::testing::tiny_model({.layers = 3});
  AnyModel model(on_processor(file));
  const auto precision = model.get_if<CpuModel>()->precision();
  const auto compute_type = precision == Precision::bf16 ? ElementType::bf16 : ElementType::f32;
  test::require_conformance(check_backend(model, {.compute_type = compute_type}));
}

TEST_CASE("it computes, watches, saves and restores to the bits of the model that it holds") {
  const auto file = krul::testing::tiny_model({.layers = 4});
  CpuModel alone = on_processor(file);
  AnyModel any(on_processor(file));
  CHECK(&any.workers() == &any.get_if<CpuModel>()->workers());
  CHECK(computes_on(any) == Resource::cores);
  CHECK(batches_caches(any));
  CHECK(lends_rows(any.make_cache(8)));
  for (const AnyStrategy& strategy : {AnyStrategy(strategy::krul()), AnyStrategy(strategy::load(ExactCodec{}))}) {
    CAPTURE(strategy.name());
    const Talk expected = talk_with(alone, strategy), found = talk_with(any, strategy);
    CHECK(found.first == expected.first);
    CHECK(found.second == expected.second);
    CHECK(found.report.matched == expected.report.matched);
    CHECK(found.report.bytes == expected.report.bytes);
    CHECK(found.report.busy[Resource::copy] == 0);
  }
}

TEST_CASE("a device that is not there is an error when it is asked for") {
  const auto file = krul::testing::tiny_model({});
  const auto none = cuda::CudaModel::load(GgufFile::from_memory(file, "tiny.gguf").value(), {.device = 4096});
  REQUIRE_FALSE(none);
  CHECK((none.error().code == ErrorCode::backend || none.error().code == ErrorCode::unsupported));
}
