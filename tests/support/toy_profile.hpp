#pragma once

#include <memory>
#include <vector>

#include "krul/calibrate/calibrate.hpp"
#include "krul/compress/joint/profile.hpp"
#include "toy_conversation.hpp"

namespace krul::test {

/// A profile of the toy model, calibrated on tokens that other seeds do not repeat.
[[nodiscard]] inline std::shared_ptr<const Profile> toy_profile(toy::Backend& model, double target = 1e-4,
                                                                bool features = true) {
  std::vector<std::vector<Token>> conversations;
  // Enough of them for what holds of these to hold of others.
  for (unsigned seed = 1; seed <= 30; ++seed) conversations.push_back(toy_tokens(200, seed * 7919));
  conversations.push_back(toy_tokens(20, 7));  // too short: skipped
  CalibrationSettings settings;
  settings.groups = {1, 3};
  settings.trials = 2;
  settings.fresh = 16;
  settings.target_kl = target;
  settings.features = features;
  Workers workers(2);
  return Profile::create(calibrate_profile(model, {conversations}, workers, settings), model.geometry()).value();
}

}  // namespace krul::test
