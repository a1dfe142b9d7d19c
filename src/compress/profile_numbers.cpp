#include "krul/compress/profile_numbers.hpp"

#include <algorithm>
#include <cmath>
#include <span>
#include <string>

#include "krul/core/finite.hpp"
#include "krul/core/half.hpp"
#include "plausible.hpp"

namespace krul {
namespace {

using detail::all_below, detail::largest_value;

constexpr float largest_factor = 1e9F;         // of weights and predictions, either way
constexpr float longest_column = 1 + 0x1p-6F;  // 1, rounded to bf16 or int8

/// What is wrong with a tensor; nothing if all is well.
std::string wrong_with(const TensorTransform& tensor, const Profile::Tensor& packed) {
  if (!all_below(tensor.mean, largest_value)) return "a mean is larger than any value of a cache";
  if (!std::all_of(tensor.weight_scales.begin(), tensor.weight_scales.end(),
                   [](float scale) { return scale >= 1 / largest_factor && scale <= largest_factor; }) ||
      !all_below(packed.weights, largest_factor))
    return "a weight is absurdly small or large";
  if (!all_below(packed.wide, longest_column) || !all_below(tensor.narrow_scales, longest_column))
    return "a column of the basis is longer than 1";
  if (!all_below(tensor.prediction_scales, largest_factor)) return "a prediction is absurdly large";
  return {};
}

}  // namespace

Status check_numbers(const Profile& profile) {
  const auto& groups = profile.data().groups;
  std::string wrong;
  if (!are_finite(ElementType::f16, std::as_bytes(std::span(profile.data().first_row))))
    wrong = "its first row is not finite";
  for (std::size_t i = 0; i < groups.size() && wrong.empty(); ++i) {
    wrong = wrong_with(groups[i].keys, profile.keys(i));
    if (wrong.empty()) wrong = wrong_with(groups[i].values, profile.values(i));
    if (!wrong.empty()) wrong = "in the group of layer " + std::to_string(groups[i].first_layer) + ", " + wrong;
  }
  if (wrong.empty()) return {};
  return fail(ErrorCode::corrupt,
              "the numbers of the profile are not those of a model: " + wrong +
                  "; make it again with calibrate_profile, or krul calibrate for krul's own models");
}

}  // namespace krul
