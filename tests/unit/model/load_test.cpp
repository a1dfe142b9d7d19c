#include "krul/model/load.hpp"

#include <doctest/doctest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <vector>

#include "krul/backend/forward.hpp"
#include "support/tiny_model.hpp"

using namespace krul;

namespace {

/// A model file that is gone when the test ends.
class TemporaryModel {
 public:
  explicit TemporaryModel(const krul::testing::TinyModel& options) {
    const auto bytes = krul::testing::tiny_model(options);
    std::ofstream(path_, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  }
  TemporaryModel(const TemporaryModel&) = delete;
  TemporaryModel& operator=(const TemporaryModel&) = delete;
  ~TemporaryModel() { std::filesystem::remove(path_); }
  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }

 private:
  std::filesystem::path path_ =
      std::filesystem::temp_directory_path() / ("krul_load_test_" + std::to_string(::getpid()) + ".gguf");
};

}  // namespace

TEST_CASE("a model file is loaded with tokenizer, chat format and name, and runs") {
  for (const std::string architecture : {"llama", "qwen2"}) {
    const TemporaryModel file({.architecture = architecture});
    auto loaded = load_model(file.path(), {.threads = 2, .cache_type = ElementType::bf16});
    REQUIRE(loaded);
    CHECK(loaded->name == "Tiny " + architecture);
    CHECK(loaded->chat);
    CHECK(loaded->backend.geometry().cache_type == ElementType::bf16);
    CHECK(loaded->backend.identity().tokenizer == loaded->tokenizer.hash());
    CHECK(loaded->backend.identity().threads == "2");
    const auto tokens = loaded->tokenizer.encode("the man in the box");
    auto cache = loaded->backend.make_cache(tokens.size());
    auto batch = loaded->backend.make_batch();
    std::vector<float> logits(loaded->backend.geometry().vocabulary);
    forward(loaded->backend, cache, batch, tokens, logits);
    CHECK(cache.length() == tokens.size());
    // The model can be moved; nothing points into the old place.
    LoadedModel moved = std::move(*loaded);
    auto again = moved.backend.make_cache(tokens.size());
    std::vector<float> same(logits.size());
    forward(moved.backend, again, batch, tokens, same);
    CHECK(same == logits);
  }
}

TEST_CASE("only tokens that have a text are ever chosen") {
  const TemporaryModel file({.rows_to_spare = 64});
  auto loaded = load_model(file.path(), {.threads = 1});
  REQUIRE(loaded);
  CHECK(loaded->backend.geometry().vocabulary == loaded->tokenizer.size());
}

TEST_CASE("a model whose chat template is unknown runs, and says so where a chat is to be rendered") {
  const TemporaryModel file({.chat_template = "{{ messages | tojson }}"});
  const auto loaded = load_model(file.path(), {.threads = 1});
  REQUIRE(loaded);
  REQUIRE(!loaded->chat);
  CHECK(loaded->chat.error().code == ErrorCode::unsupported);
  CHECK(load_model(file.path(), {.threads = 1, .chat_template = "chatml"})->chat);
  const auto wrong = load_model(file.path(), {.chat_template = "alpaca"});
  REQUIRE(!wrong);
  CHECK(wrong.error().code == ErrorCode::invalid_argument);
}

TEST_CASE("what cannot be loaded says why") {
  const auto missing = load_model("no/such/file.gguf");
  REQUIRE(!missing);
  CHECK(missing.error().code == ErrorCode::not_found);
  const TemporaryModel file({});
  const auto bf16 = load_model(file.path(), {.kernels = KernelChoice::eigen, .precision = Precision::bf16});
  REQUIRE(!bf16);
  CHECK(bf16.error().code == ErrorCode::unsupported);
  CHECK(load_model(file.path(), {.kernels = KernelChoice::eigen})->backend.identity().kernels == "eigen f32");
  std::filesystem::resize_file(file.path(), 5000);
  CHECK(!load_model(file.path()));
}
