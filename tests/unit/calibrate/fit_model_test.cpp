#include "krul/calibrate/fit_model.hpp"

#include <doctest/doctest.h>

#include <fstream>
#include <utility>

#include "krul/calibrate/profile_file.hpp"
#include "support/temporary_directory.hpp"
#include "support/tiny_model.hpp"

using namespace krul;

namespace {

/// A tiny model in a file of its own.
LoadedModel tiny_model_in(const std::filesystem::path& folder, const krul::testing::TinyModel& options = {}) {
  const auto path = folder / "tiny.gguf";
  const auto bytes = krul::testing::tiny_model(options);
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  return load_model(path, {.threads = 1, .kernels = KernelChoice::eigen, .precision = Precision::f32}).value();
}

}  // namespace

TEST_CASE("a model writes texts, and its profile is fitted to them") {
  const test::TemporaryDirectory folder;
  LoadedModel model = tiny_model_in(folder.path());
  const std::vector<std::vector<Message>> openings = {{{"user", "What grows in the shade?"}},
                                                      {{"user", "Name a bean."}, {"assistant", "The runner bean."}}};
  std::size_t steps = 0;
  const auto texts = written_texts(model, openings, {.tokens = 400, .text = 100, .at_once = 2},
                                   [&](std::size_t done, std::size_t all) {
                                     ++steps;
                                     CHECK(done <= all);
                                   });
  REQUIRE(texts);
  CHECK(steps > 0);
  REQUIRE(texts->size() >= 4);
  const CalibrationSettings settings{.groups = {1}, .conversation = 90, .trials = 1, .fresh = 8};
  std::size_t all = 0;
  for (const auto& text : *texts) all += std::min<std::size_t>(text.size(), 90);
  CHECK(tokens_looked_at(*texts, settings) == all);

  const auto profile = fit_profile(model, *texts, settings);
  REQUIRE_MESSAGE(profile.has_value(), profile.error().message);
  CHECK((*profile)->data().notes == std::to_string(texts->size()) + " texts, " + std::to_string(all) + " tokens");
  // It is read back for this model, and for no other.
  const auto bytes = serialize((*profile)->data());
  const auto read = read_profile_for(bytes, model.backend.geometry(), model.backend.identity());
  REQUIRE(read);
  CHECK((*read)->hash() == (*profile)->hash());
  Identity other = model.backend.identity();
  other.weights = other.former_weights = "others";
  const auto refused = read_profile_for(bytes, model.backend.geometry(), other);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == ErrorCode::identity_mismatch);
  CHECK_FALSE(read_profile_for(std::span(bytes).first(20), model.backend.geometry(), model.backend.identity()));

  const auto profiles = folder.path() / "profiles";
  CHECK_FALSE(kept_profile_in(profiles, model.backend.identity()));
  const auto file = profile_file_in(profiles, model.backend.identity().weights);
  REQUIRE(write_profile(file, **profile));
  CHECK(kept_profile_in(profiles, model.backend.identity()) == file);
  Identity renamed = model.backend.identity();
  renamed.former_weights = std::exchange(renamed.weights, "new");
  CHECK(kept_profile_in(profiles, renamed) == file);
  CHECK(read_profile(file, model.backend.geometry(), model.backend.identity()).value()->hash() == (*profile)->hash());
  const auto of_others = read_profile(file, model.backend.geometry(), other);
  REQUIRE_FALSE(of_others);
  CHECK(of_others.error().message.starts_with(file.string()));
  CHECK(read_profile(folder.path() / "none", model.backend.geometry(), other).error().code == ErrorCode::not_found);

  const std::vector<std::vector<Token>> brief = {std::vector<Token>(63, 5)};
  const auto too_short = fit_profile(model, brief, settings);
  REQUIRE_FALSE(too_short);
  CHECK(too_short.error().code == ErrorCode::invalid_argument);
  CHECK_THROWS_AS(static_cast<void>(written_texts(model, {}, {})), PreconditionError);
}

TEST_CASE("a model without a chat format writes no texts") {
  const test::TemporaryDirectory folder;
  LoadedModel model = tiny_model_in(folder.path(), {.chat_template = "{{ nobody knows }}"});
  const std::vector<std::vector<Message>> openings = {{{"user", "x"}}};
  CHECK_FALSE(written_texts(model, openings, {.tokens = 100}));
}
