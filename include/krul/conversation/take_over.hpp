#pragma once

#include <string>
#include <utility>

#include "krul/conversation/conversation_options.hpp"
#include "krul/core/error.hpp"
#include "krul/core/identity.hpp"
#include "krul/store/manifest_store.hpp"

namespace krul {

/// What a conversation goes on with of what is saved: all of it if that is the present model's, its weights by their
/// present name; only the tokens if other weights saved it and they are to be recomputed.
/// @param fresh      what a new conversation of that id and the present model would begin with
/// @param options    whether the tokens of other weights are taken, and what tokens mean here: those of another
///                   tokenizer are taken where they mean the same
/// @return identity_mismatch, listing the fields and saying what to do, if another model saved it and its tokens are
///         not to be recomputed, mean another text here, or may
/// @post   a generation that is taken over is the saved one, so that the next save replaces it, and nothing does before
[[nodiscard]] inline Result<LoadedManifest> take_over(LoadedManifest saved, Manifest fresh,
                                                      const ConversationOptions& options) {
  Manifest& manifest = saved.manifest;
  const auto differing = differences(manifest.identity, fresh.identity);
  if (differing.empty()) {
    manifest.identity = std::move(fresh.identity);
    return saved;
  }
  const std::string refusal =
      "the saved conversation \"" + fresh.conversation + "\" belongs to another model: " + describe(differing);
  if (manifest.identity.tokenizer != fresh.identity.tokenizer) {
    const bool is_known = !manifest.texts.empty() && options.texts_hash;
    if (!is_known || options.texts_hash(manifest.tokens) != manifest.texts)
      return fail(ErrorCode::identity_mismatch,
                  refusal +
                      (is_known ? "; its tokens mean another text here"
                                : "; whether its tokens mean another text here cannot be told, since what they meant "
                                  "was not saved with them") +
                      ": use its model, or begin another conversation");
  }
  if (!options.recompute)
    return fail(ErrorCode::identity_mismatch,
                refusal + "; use its model, or have its " + std::to_string(manifest.tokens.size()) +
                    " tokens recomputed by this one: krul chat --recompute, ConversationOptions::recompute");
  fresh.generation = manifest.generation;
  fresh.tokens = std::move(manifest.tokens);
  fresh.texts = manifest.texts;
  return LoadedManifest{
      .manifest = std::move(fresh),
      .repaired = "the saved rows are another model's: " + describe(differing) + "; its tokens are recomputed",
      .bytes = saved.bytes};
}

}  // namespace krul
