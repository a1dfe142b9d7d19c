#include "krul/strategy/save_plan.hpp"

#include <algorithm>

#include "krul/compress/coding_numbers.hpp"
#include "krul/compress/joint/step_classes.hpp"

namespace krul {

SavePlanRecord SavePlan::record() const {
  SavePlanRecord record{strategy, profile ? std::string(profile_prefix) + profile->hash() : coding.name(), settings,
                        profile ? profile->hash() : std::string()};
  if (measured_step) record.measured_step = measured_step->code;
  for (const AnyChunkCoder* coder : {&coding, pairs.empty() ? nullptr : &pair_coding})
    if (coder && !profile && !krul_coding_number(coder->name())) record.coders.push_back(coder->name());
  return record;
}

std::span<const std::uint8_t> SavePlan::classes_of(std::size_t layer, TokenRange tokens, std::size_t rows) const {
  if (classes.empty()) return {};
  const auto& groups = profile->data().groups;
  const auto group = static_cast<std::size_t>(
      std::ranges::find_if(groups, [&](const auto& each) { return layer < each.first_layer + each.layers; }) -
      groups.begin());
  return std::span(classes).subspan(group * rows + tokens.begin, tokens.end - tokens.begin);
}

std::uint8_t coding_number(const AnyChunkCoder& coder, const SavePlanRecord& record) {
  const std::string name = coder.name();
  if (const auto number = krul_coding_number(name)) return *number;
  const auto found = std::find(record.coders.begin(), record.coders.end(), name);
  expects(found != record.coders.end(), "coding_number: the record does not name the coder");
  return static_cast<std::uint8_t>(first_foreign_coding + (found - record.coders.begin()));
}

void expects_valid(const SavePlan& plan, std::size_t layers) {
  expects_disjoint(plan.pairs, layers);
  expects(plan.coding.layers() == 1, "SavePlan: the coding of single layers codes one layer");
  expects(plan.pairs.empty() || plan.pair_coding.layers() == 2, "SavePlan: the coding of pairs codes two layers");
  expects(plan.left_out.empty() || plan.left_out.size() == layers, "SavePlan: left_out needs an entry for each layer");
  expects(std::is_sorted(plan.left_out.rbegin(), plan.left_out.rend()),
          "SavePlan: a deeper layer leaves out no more than a shallower one");
  expects(plan.from_source.empty() || plan.from_source.size() == layers,
          "SavePlan: from_source needs an entry for each layer");
  expects(!plan.profile || (plan.pairs.empty() && plan.from_source.empty()),
          "SavePlan: with a profile, all layers are coded in its groups");
  const bool has_classes = !plan.classes.empty();
  expects(!has_classes || (plan.profile && plan.classes.size() % plan.profile->data().groups.size() == 0 &&
                           std::ranges::max(plan.classes) < StepClasses::count),
          "SavePlan: classes are those of a profile's groups, for each row one of 16");
  for (const LayerPair& pair : plan.pairs)
    expects(plan.from_source.empty() || (!plan.from_source[pair.shallow] && !plan.from_source[pair.deep]),
            "SavePlan: layers of a pair store K and V");
}

}  // namespace krul
