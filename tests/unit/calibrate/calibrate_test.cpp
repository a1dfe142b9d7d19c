#include "krul/calibrate/calibrate.hpp"

#include <doctest/doctest.h>

#include "krul/compress/joint/profile.hpp"
#include "krul/compress/joint/recent_rows.hpp"
#include "krul/core/half.hpp"
#include "krul/store/faulty_store.hpp"
#include "support/coded_by.hpp"
#include "support/poisoned_backend.hpp"
#include "support/toy_conversation.hpp"
#include "support/toy_profile.hpp"

namespace krul {

using test::toy_profile, test::toy_tokens;

TEST_CASE("a calibrated profile meets the divergence that was asked for, on tokens it has not seen") {
  toy::Backend model(ElementType::f16);
  const auto tokens = toy_tokens(180, 99);
  constexpr std::size_t rows = 30;
  const std::size_t vocabulary = model.geometry().vocabulary;
  std::vector<float> whole(rows * vocabulary);
  auto cache = model.make_cache(tokens.size());
  auto batch = model.make_batch();
  prefill(model, cache, batch, tokens, whole);
  for (const bool features : {true, false}) {
    const auto profile = toy_profile(model, 1e-4, features);
    MemoryStore store;
    const std::vector<Token> before(tokens.begin(), tokens.begin() + 150);
    {
      auto talk = open_conversation(model, store, "talk", test::coded_by(profile)).value();
      std::vector<float> logits(model.geometry().vocabulary);
      REQUIRE(talk.advance(before, logits));
      REQUIRE(talk.save());
      CHECK(talk.manifest().plans[0].codec == "profile " + profile->hash());
      CHECK(talk.manifest().chunk(1, 0) == talk.manifest().chunk(3, 0));
    }
    std::vector<float> logits(rows * vocabulary);
    auto talk = open_conversation(model, store, "talk", test::coded_by(profile), {.read_only = true}).value();
    const auto report = talk.advance(tokens, logits).value();
    CHECK(report.matched == 150);
    CHECK(report.repaired_rows == 0);
    CHECK(report.loaded_rows == 150 * model.geometry().layers);
    double sum = 0;
    for (std::size_t row = 0; row < rows; ++row)
      sum += NextToken(std::span(whole).subspan(row * vocabulary, vocabulary))
                 .divergence_from(NextToken(std::span(logits).subspan(row * vocabulary, vocabulary)));
    // The target holds on average over the trials; other tokens may take a few times as much.
    CHECK(sum / rows < 5e-4);
  }
}

TEST_CASE("without the profile rows are recomputed, not guessed") {
  toy::Backend model(ElementType::f16);
  const auto profile = toy_profile(model), other = toy_profile(model, 1e-2);
  REQUIRE(profile->id() != other->id());
  const auto tokens = toy_tokens(120, 5);
  const auto whole = test::run_through(model, tokens);
  MemoryStore store;
  {
    auto talk = open_conversation(model, store, "talk", test::coded_by(profile)).value();
    std::vector<float> logits(model.geometry().vocabulary);
    REQUIRE(talk.advance(std::vector<Token>(tokens.begin(), tokens.begin() + 100), logits));
    REQUIRE(talk.save());
  }
  for (const auto& given : {std::shared_ptr<const Profile>{}, other}) {
    auto talk = open_conversation(model, store, "talk", test::coded_by(given), {.read_only = true}).value();
    std::vector<float> logits(model.geometry().vocabulary);
    const auto report = talk.advance(tokens, logits).value();
    CHECK(report.loaded_rows == 0);
    CHECK(report.repaired_rows >= 100 * model.geometry().layers);
    for (std::size_t i = 0; i < logits.size(); ++i)
      CHECK(logits[i] == doctest::Approx(whole.logits[i]).epsilon(0x1p-8).scale(1));
  }
}

TEST_CASE("turns append: the newest blocks are coded anew, all others keep their bytes") {
  toy::Backend model(ElementType::f16);
  const auto profile = toy_profile(model);
  for (const bool attended : {false, true}) {
    CAPTURE(attended);
    MemoryStore store;
    std::vector<ChunkRecord> before;
    std::size_t settled = 0;  // blocks that were not the newest ones at the last save
    for (const std::size_t length : {70, 140, 150, 220, 221, 400}) {
      CAPTURE(length);
      auto talk = open_conversation(model, store, "talk", test::coded_by(profile, attended)).value();
      std::vector<float> logits(model.geometry().vocabulary);
      REQUIRE(talk.advance(toy_tokens(length, 3), logits));
      const auto report = talk.save().value();
      const Manifest& manifest = talk.manifest();
      for (std::size_t block = 0; block < settled; ++block) CHECK(manifest.chunk(2, block).hash == before[block].hash);
      const std::size_t was_settled = settled;
      settled = 0;
      while ((settled + 1) * manifest.block + RecentRows{}.count <= length) ++settled;
      for (std::size_t block = was_settled; block < std::min(settled, before.size()); ++block)
        CHECK((attended || manifest.chunk(2, block).bytes < before[block].bytes));  // rows of one may be looked at anew
      // Coded are the blocks that settled, and what comes after them; without any, from the open block on.
      const std::size_t first = settled > was_settled ? was_settled : before.size();
      CHECK(report.new_rows == length - first * manifest.block);
      before.clear();
      for (std::size_t block = 0; block < length / manifest.block; ++block) before.push_back(manifest.chunk(2, block));
    }
  }
}

TEST_CASE("a damaged chunk of a group is repaired in all its layers") {
  toy::Backend model(ElementType::f16);
  const auto profile = toy_profile(model);
  MemoryStore store;
  const auto tokens = toy_tokens(330, 4);
  {
    auto talk = open_conversation(model, store, "talk", test::coded_by(profile)).value();
    std::vector<float> logits(model.geometry().vocabulary);
    REQUIRE(talk.advance(std::vector<Token>(tokens.begin(), tokens.begin() + 320), logits));
    REQUIRE(talk.save());
    const auto& chunk = talk.manifest().chunk(1, 1);
    test::flip_byte(store, talk.folder() + "/" + talk.manifest().objects[chunk.object], chunk.offset + chunk.bytes / 2);
  }
  auto talk = open_conversation(model, store, "talk", test::coded_by(profile), {.read_only = true}).value();
  std::vector<float> logits(model.geometry().vocabulary);
  CHECK(talk.advance(tokens, logits).value().repaired_rows == 3 * 64);
}

TEST_CASE("the more keys are worth, the less of the error is theirs") {
  toy::Backend model(ElementType::f16);
  const Geometry& geometry = model.geometry();
  const auto tokens = toy_tokens(192, 3);
  const auto exact = test::run_through(model, tokens);
  Workers workers(2);
  const TokenFeatures features(model, tokens);
  double shares[2];
  for (const bool worthy : {false, true}) {
    std::vector<std::vector<Token>> conversations;
    for (unsigned seed = 1; seed <= 20; ++seed) conversations.push_back(toy_tokens(200, seed * 7919));
    const CalibrationSettings settings{
        .groups = {4}, .trials = 2, .fresh = 16, .target_kl = 1e-4, .keys_worth = worthy ? 16.0 : 1.0};
    const auto profile =
        Profile::create(calibrate_profile(model, {conversations}, workers, settings), geometry).value();
    const auto coded = coded_copy(model, exact.cache, {.count = tokens.size(), .capacity = tokens.size()},
                                  {profile, {}, features, {.count = 0}}, workers);
    double error[2] = {};
    for (std::size_t layer = 0; layer < geometry.layers; ++layer) {
      const auto before = read_kv_rows(exact.cache, geometry, layer, {0, tokens.size()});
      const auto after = read_kv_rows(coded, geometry, layer, {0, tokens.size()});
      for (const bool values : {false, true}) {
        std::vector<float> a(tokens.size() * geometry.kv_values()), b(a.size());
        to_float(geometry.cache_type, values ? before.values : before.keys, a);
        to_float(geometry.cache_type, values ? after.values : after.keys, b);
        for (std::size_t i = 0; i < a.size(); ++i) error[values] += double{a[i] - b[i]} * (a[i] - b[i]);
      }
    }
    shares[worthy] = error[0] / (error[0] + error[1]);
  }
  CHECK(shares[true] < shares[false]);
}

TEST_CASE("calibration of a model whose numbers are not finite ends in an error that names the layer") {
  std::vector<std::vector<Token>> conversations;
  for (unsigned seed = 1; seed <= 4; ++seed) conversations.push_back(toy_tokens(200, seed));
  CalibrationSettings settings;
  settings.groups = {4};
  settings.fresh = 16;
  for (const std::size_t threads : {1, 2}) {
    Workers workers(threads);
    test::PoisonedBackend model;
    const auto message = [&] {
      try {
        (void)calibrate_profile(model, {conversations}, workers, settings);
      } catch (const NotFiniteError& error) {
        return std::string(error.what());
      }
      return std::string("nothing was thrown");
    };
    for (const std::size_t layer : {0, 2}) {
      model.layer = layer;
      CHECK(message().find("layer " + std::to_string(layer + 1)) != std::string::npos);
    }
    model.layer = 3;
    CHECK(message().find("the logits are not finite") != std::string::npos);
    model.layer.reset();
    model.output = true;
    CHECK(message().find("the logits are not finite") != std::string::npos);
  }
}

TEST_CASE("a profile says which weights it was made for") {
  toy::Backend model;
  CHECK(toy_profile(model)->data().model == model.identity().weights);
}

TEST_CASE("a profile that was not tuned for want of long conversations says so") {
  toy::Backend model(ElementType::f16);
  Workers workers(2);
  std::vector<std::vector<Token>> conversations;
  for (unsigned seed = 1; seed <= 4; ++seed) conversations.push_back(toy_tokens(100, seed));
  CalibrationSettings settings{.groups = {1, 3}, .trials = 1, .features = false};
  const ProfileData data = calibrate_profile(model, {conversations}, workers, settings);
  CHECK(data.notes.find("not tuned: no conversation has 256 tokens") != std::string::npos);
  CHECK(Profile::create(data, model.geometry()));
  settings.fresh = 25;
  CHECK(calibrate_profile(model, {conversations}, workers, settings).notes.empty());
}

TEST_CASE("calibration refuses what it cannot use") {
  toy::Backend model(ElementType::f16);
  Workers workers(1);
  const std::vector<std::vector<Token>> short_ones{toy_tokens(10)};
  CHECK_THROWS_WITH_AS((void)calibrate_profile(model, {short_ones}, workers),
                       "calibrate_profile: no conversation has 64 tokens; give two dozen of 256 or more",
                       PreconditionError);
  const KvMoments none(model.geometry(), 0, std::vector<std::size_t>{4});
  CHECK_THROWS_AS((void)ProfileFit({model.geometry(), none, {}, {}}, {}, workers), PreconditionError);
}

}  // namespace krul
