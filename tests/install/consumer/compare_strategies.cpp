// A profile calibrated for one's own backend, the default under it, and a strategy of one's own beside the catalogue.

#include <cstdio>
#include <krul/calibrate/calibrate.hpp>
#include <krul/compress/joint/profile.hpp>
#include <krul/compress/layer_pair_compressor.hpp>
#include <krul/compress/slerp_merge.hpp>
#include <krul/eval/compare.hpp>
#include <krul/restore/pyramid.hpp>
#include <krul/store/memory_store.hpp>
#include <krul/strategy/catalogue/all.hpp>

#include "own_parts.hpp"
#include "toy_backend.hpp"

std::vector<krul::Token> some_tokens(std::size_t count, unsigned seed) {
  std::vector<krul::Token> tokens;
  for (unsigned state = seed; tokens.size() < count;) {
    state = state * 1664525U + 1013904223U;
    tokens.push_back(static_cast<krul::Token>(state >> 26));
  }
  return tokens;
}

int main() try {
  toy::Backend model;
  krul::MemoryStore store;
  std::vector<float> logits(model.geometry().vocabulary);
  const std::vector<krul::Token> tokens = some_tokens(320, 99);
  std::vector<std::vector<krul::Token>> conversations;
  for (unsigned seed = 1; seed <= 30; ++seed) conversations.push_back(some_tokens(200, seed * 7919));
  krul::Workers workers(2);
  krul::CalibrationSettings settings;
  settings.groups = {1, 3};
  const auto profile = krul::or_throw(
      krul::Profile::create(krul::calibrate_profile(model, {conversations}, workers, settings), model.geometry()));

  auto talk = krul::open_conversation(model, store, "garden", krul::strategy::krul(profile)).value();
  talk.advance(tokens, logits).value();
  talk.save().value();
  const krul::SavePlanRecord& plan = talk.manifest().plans.front();
  if (plan.strategy != "krul" || plan.profile != profile->hash() || !plan.measured_step) return 1;

  using Mine =
      krul::Composed<OwnPairs, krul::LayerPairCompressor<krul::SlerpMerge, Fp8Codec>, krul::Pyramid, krul::AsStored>;
  auto mine = krul::open_conversation(model, store, "meadow", Mine{"mine"}).value();
  mine.advance(tokens, logits).value();
  mine.save().value();
  std::vector<krul::eval::ComparedText> texts = {{some_tokens(280, 5), some_tokens(24, 6)}};
  auto table =
      krul::eval::compare(model, texts, store,
                          {krul::strategy::krul(profile), Mine{"mine"}, krul::strategy::minicache(),
                           krul::strategy::recompute(), krul::strategy::partial(), krul::strategy::krul_paper()});
  std::printf("%s", krul::eval::table_of(krul::or_throw(table)).c_str());
} catch (const std::exception& error) {
  return std::fprintf(stderr, "%s\n", error.what()), 1;
}
