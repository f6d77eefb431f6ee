"""The REST door, `/api/v1/`. Serializers translate; verbs live in the apps to the right."""
