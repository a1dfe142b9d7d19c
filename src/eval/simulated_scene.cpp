#include "krul/eval/simulated_scene.hpp"

#include "krul/compress/float_codec.hpp"
#include "krul/compress/int8_codec.hpp"
#include "krul/compress/layer_pair_compressor.hpp"
#include "krul/compress/slerp_merge.hpp"
#include "krul/strategy/catalogue/load.hpp"

namespace krul::eval {
namespace {

/// What a relative link means is known once the rest of the scene is.
Result<simulate::Scene> over(simulate::Scene scene, const LinkName& link) {
  if (link.kind != LinkName::Kind::relative) return scene;
  const auto rate = simulate::fitted_link_rate(scene, link.factor);
  if (!rate) return propagate(rate);
  scene.costs.link.bytes_per_s = *rate;
  return scene;
}

}  // namespace

Result<simulate::Scene> measured_scene(const MachineCosts& measured, const SimulatedReturn& of, const LinkName& link) {
  if (link.to_device && measured.costs.on.compute == Resource::cores)
    return fail(ErrorCode::invalid_argument, "the link " + link.text +
                                                 " leads from memory to a device, and these costs are of a model on "
                                                 "the processor: use the link memory");
  LinkName known = link;
  if (link.kind == LinkName::Kind::relative) known = {link.text, LinkName::Kind::rate, 1e9};  // until it is fitted
  const auto costs_of = [&](const AnyStrategy& strategy) { return measured.of(strategy, of.shape.layers, known); };
  const auto merged = measured.decoding.find(LayerPairCompressor(SlerpMerge{}, F16Codec{}).name());
  const auto scene =
      simulate::measured_scene(of.shape, {.costs = costs_of(strategy::load(F16Codec{})),
                                          .int8_row_s = costs_of(strategy::load(Int8Codec{})).layer.decode_row_s,
                                          .merged_row_s = merged == measured.decoding.end() ? 0 : merged->second,
                                          .memory_bytes_per_s = measured.memory.bytes_per_s});
  return over(simulate::at_length(scene, of.history, of.prompt), link);
}

Result<simulate::Scene> counted_scene(const simulate::Hardware& hardware, const SimulatedReturn& of,
                                      const std::optional<LinkName>& link) {
  simulate::Hardware known = hardware;
  if (link && link->kind == LinkName::Kind::rate) known.link.bytes_per_s = link->bytes_per_s;
  if (link && (link->kind == LinkName::Kind::disk || link->kind == LinkName::Kind::memory))
    return fail(ErrorCode::invalid_argument,
                "the link " + link->text + " is known where costs were measured, not where they are counted");
  const auto scene = simulate::device_scene(of.shape, known, of.history, of.prompt);
  return over(simulate::at_length(scene, of.history, of.prompt), link.value_or(LinkName{}));
}

}  // namespace krul::eval
