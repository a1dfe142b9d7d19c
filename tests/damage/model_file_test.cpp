#include <doctest/doctest.h>

#include <fstream>

#include "damaged_bytes.hpp"
#include "krul/backend/forward.hpp"
#include "krul/core/finite.hpp"
#include "krul/model/load.hpp"
#include "memory_limit.hpp"
#include "support/temporary_directory.hpp"
#include "support/tiny_model.hpp"

using namespace krul;
using namespace krul::testing;

namespace {

/// Whether a file is loaded, and then computes something for a few tokens, or says that its numbers are not finite.
bool is_loaded(const std::filesystem::path& path) {
  auto model = load_model(path, {.threads = 1});
  if (!model) {
    CHECK_FALSE(model.error().message.empty());
    return false;
  }
  auto tokens = model->tokenizer.encode("the man in the box");
  tokens.resize(std::min<std::size_t>(tokens.size(), model->backend.geometry().context));
  if (tokens.empty()) return true;
  auto cache = model->backend.make_cache(tokens.size());
  auto batch = model->backend.make_batch();
  std::vector<float> logits(model->backend.geometry().vocabulary);
  try {
    forward(model->backend, cache, batch, tokens, logits);
    CHECK(cache.length() == tokens.size());
  } catch (const NotFiniteError&) {
    return false;
  }
  return true;
}

}  // namespace

TEST_CASE("a damaged model file is refused, or is a model: within a gibibyte") {
  const test::TemporaryDirectory folder;
  const auto path = folder.path() / "model.gguf";
  for (const auto& options : {TinyModel{.layers = 1, .weights = GgufType::q4_1},
                              TinyModel{.architecture = "qwen2", .layers = 1, .tied = false}}) {
    const auto bytes = tiny_model(options);
    const auto tensors = static_cast<std::size_t>(std::search(bytes.begin(), bytes.end(),
                                                              std::as_bytes(std::span("token_embd.weight")).begin(),
                                                              std::as_bytes(std::span("token_embd.weight")).end() - 1) -
                                                  bytes.begin());
    REQUIRE(tensors < bytes.size());
    std::size_t loaded = 0, refused = 0;
    const MemoryLimit limit(std::size_t{1} << 30);
    each_damaged(bytes, {.flips = 250, .truncations = 100, .header = tensors}, [&](std::vector<std::byte> changed) {
      std::ofstream(path, std::ios::binary)
          .write(reinterpret_cast<const char*>(changed.data()), static_cast<std::streamsize>(changed.size()));
      REQUIRE_NOTHROW(++(is_loaded(path) ? loaded : refused));
    });
    CHECK(loaded > 0);
    CHECK(refused >= 100);  // all that end early
  }
}
