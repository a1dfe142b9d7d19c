#pragma once

#include <string>
#include <utility>

#include "krul/core/error.hpp"
#include "krul/core/identity.hpp"
#include "krul/store/manifest_store.hpp"

namespace krul {

/// What a conversation goes on with of what is saved: all of it if that is the present model's, its weights by their
/// present name; only the tokens if other weights saved it and they are to be recomputed.
/// @param fresh      what a new conversation of that id and the present model would begin with
/// @param recompute  take the tokens of other weights
/// @return identity_mismatch, listing the fields and saying what to do, if another model saved it and its tokens are
/// not
///         to be recomputed, or mean another text here
/// @post   a generation that is taken over is the saved one, so that the next save replaces it, and nothing does before
[[nodiscard]] inline Result<LoadedManifest> take_over(LoadedManifest saved, Manifest fresh, bool recompute) {
  Manifest& manifest = saved.manifest;
  const auto differing = differences(manifest.identity, fresh.identity);
  if (differing.empty()) {
    manifest.identity = std::move(fresh.identity);
    return saved;
  }
  const std::string refusal =
      "the saved conversation \"" + fresh.conversation + "\" belongs to another model: " + describe(differing);
  if (manifest.identity.tokenizer != fresh.identity.tokenizer)
    return fail(ErrorCode::identity_mismatch,
                refusal + "; its tokens mean another text here: use its model, or begin another conversation");
  if (!recompute)
    return fail(ErrorCode::identity_mismatch,
                refusal + "; use its model, or have its " + std::to_string(manifest.tokens.size()) +
                    " tokens recomputed by this one: krul chat --recompute, ConversationOptions::recompute");
  fresh.generation = manifest.generation;
  fresh.tokens = std::move(manifest.tokens);
  return LoadedManifest{
      .manifest = std::move(fresh),
      .repaired = "the saved rows are another model's: " + describe(differing) + "; its tokens are recomputed",
      .bytes = saved.bytes};
}

}  // namespace krul
