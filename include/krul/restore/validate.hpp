#pragma once

#include <cmath>

#include "krul/core/error.hpp"
#include "krul/restore/restore_plan.hpp"

namespace krul {

/// @throws PreconditionError unless every cost is finite and >= 0, rates are > 0, and cores or a device compute and
///         decode
inline void expects_valid(const Costs& costs) {
  const auto& link = costs.link;
  const auto& layer = costs.layer;
  expects(std::isfinite(link.bytes_per_s) && link.bytes_per_s > 0,
          "Costs: the link's bytes per second must be finite and above zero");
  expects(std::isfinite(costs.copy.bytes_per_s) && costs.copy.bytes_per_s > 0,
          "Costs: the bytes per second of copying must be finite and above zero");
  const auto processes = [](Resource resource) { return resource == Resource::cores || resource == Resource::device; };
  expects(processes(costs.on.compute) && processes(costs.on.decode), "Costs: cores or a device compute and decode");
  expects(costs.on.decode == Resource::cores || costs.on.compute == Resource::device,
          "Costs: a device decodes into a cache of its own, so it computes too");
  for (const double cost : {link.latency_s, link.open_s, costs.copy.latency_s, link.core_s_per_byte, layer.call_s,
                            layer.project_row_s, layer.finish_row_s, layer.attend_pair_s, layer.attend_key_s,
                            layer.decode_row_s, layer.joint_row_s, costs.pass_s, costs.open_s, costs.open_s_per_byte})
    expects(std::isfinite(cost) && cost >= 0, "Costs: every cost must be finite and not negative");
}

/// @throws PreconditionError unless there is a layer, a prompt, a block length, every layer describes every block,
///         shares with shallower layers only, and leaves out whole blocks or the whole history
inline void expects_valid(const RestoreSizes& sizes) {
  expects(sizes.prompt > 0, "RestoreSizes: a restore needs at least one new token");
  expects(sizes.block > 0, "RestoreSizes: a block has at least one token");
  expects(!sizes.layers.empty(), "RestoreSizes: a model has at least one layer");
  for (std::size_t l = 0; l < sizes.layers.size(); ++l) {
    const StoredLayer& layer = sizes.layers[l];
    expects(layer.block_bytes.size() == sizes.blocks() && layer.block_object.size() == sizes.blocks(),
            "RestoreSizes: block_bytes and block_object need one entry for each block of the history");
    expects(layer.shared_with.empty() || layer.shared_with.size() == sizes.blocks(),
            "RestoreSizes: shared_with needs one entry for each block of the history, or none at all");
    expects(layer.group_index < layer.group_layers && layer.group_index <= l,
            "RestoreSizes: a layer is one of those that it was coded with");
    for (const double share : {layer.joint_share, layer.projected_share})
      expects(share >= 0 && share <= 1, "RestoreSizes: joint_share and projected_share are parts of a layer's rows");
    for (const std::int32_t other : layer.shared_with)
      expects(other >= -1 && other < static_cast<std::int32_t>(l), "RestoreSizes: a layer shares with shallower ones");
    expects(layer.unstored == sizes.history || (layer.unstored < sizes.history && layer.unstored % sizes.block == 0),
            "RestoreSizes: whole blocks or the whole history may be left out");
  }
}

}  // namespace krul
