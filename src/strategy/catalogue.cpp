#include "krul/strategy/catalogue.hpp"

#include <sstream>

#include "krul/compress/exact_codec.hpp"
#include "krul/compress/float_codec.hpp"
#include "krul/compress/int4_codec.hpp"
#include "krul/compress/int8_codec.hpp"
#include "krul/strategy/catalogue/all.hpp"

namespace krul::strategy {

std::vector<Listed> catalogue(const std::shared_ptr<const Profile>& profile) {
  return {
      {recompute(), "only the tokens are kept; the whole history runs through the model again"},
      {load(ExactCodec{}), "the cache's own bytes, all of them read"},
      {load(F16Codec{}), "two bytes a value, all of them read"},
      {load(Int8Codec{}), "one byte a value, all of them read"},
      {load(Int4Codec{}), "half a byte a value, all of them read"},
      {minicache(), "neighbours of the deeper half merged, L/4 pairs, all of it read"},
      {partial(), "the same front left out and recomputed in every layer, the rest read layer by layer beside it"},
      {partial_plain(), "the same without pipelining by layer: front, then rest, then prompt"},
      {cake(), "no plan: recompute forwards and read backwards until they meet"},
      {Hcache{}, "every layer's input is read and projected; layers before a cut are recomputed instead"},
      {H2o{}, "only heavy hitters and the latest tokens are kept, as many bytes as krul-paper keeps"},
      {H2o{4}, "the same, a quarter of the tokens"},
      {H2o{12}, "the same, a twelfth of the tokens"},
      {krul_paper(), "the paper: L/4 pairs by attention merged, a pyramid of fronts left out and recomputed"},
      {krul_paper_uniform(), "krul-paper with the same front in every layer, as many bytes as the pyramid stores"},
      {pyramid(), "krul-paper's pyramid without merging"},
      {merge_attention(), "krul-paper's pairs merged, everything read"},
      {merge_random(), "as many random pairs merged, everything read"},
      {merge_predictable(), "as many pairs, those whose rows predict each other best, merged, everything read"},
      {merge_values(), "krul-paper's pairs, only V merged, everything read"},
      {merge_keys(), "krul-paper's pairs, only K merged, everything read"},
      {reuse(), "krul-paper's pairs, the shallower layer's rows used for both, everything read"},
      {krul_lossless(), "the cache's own bytes, entropy coded, all of them read: bit for bit what was saved"},
      {krul_codec(profile),
       "groups of layers coded together by the model's profile, all of it read: 11 to 14 times smaller than f16"},
      {krul_compact(profile), "the same with larger steps: 13 to 17 times smaller"},
      {krul_newest(profile),
       "krul-codec with finer steps for the newest rows, in the place of those that attention finds"},
      {KrulSmall(profile),
       "fewest bytes: as large a front left out and recomputed as leaves restores twice as fast as recomputing, "
       "and as reading two bytes a value"},
      {krul(profile),
       "the default: krul-codec's coding (one byte a value without a profile, or where the link is so fast that "
       "it is sooner), every row stored, the fronts that are fastest for the link"},
  };
}

Result<AnyStrategy> named(const std::vector<Listed>& list, std::string_view name) {
  std::string names;
  for (const Listed& each : list) {
    if (each.strategy.name() == name) return each.strategy;
    names += (names.empty() ? "" : ", ") + each.strategy.name();
  }
  return fail(ErrorCode::invalid_argument, "unknown strategy \"" + std::string(name) + "\"; there are: " + names);
}

Result<std::vector<AnyStrategy>> all_named(const std::vector<Listed>& list, const std::string& names) {
  std::vector<AnyStrategy> found;
  std::stringstream separated(names);
  for (std::string name; std::getline(separated, name, ',');) {
    auto strategy = named(list, name);
    if (!strategy) return propagate(strategy);
    found.push_back(std::move(*strategy));
  }
  return found;
}

AnyStrategy default_strategy() {
  return krul();
}

}  // namespace krul::strategy
